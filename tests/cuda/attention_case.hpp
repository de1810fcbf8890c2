// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "freqkv/cuda/detail/attention/attention_task.hpp"
#include "freqkv/rope_options.hpp"
#include "freqkv/workspace.hpp"
#include "naive.hpp"

namespace freqkv::cuda {

struct AttentionShape {
    int kv_heads, group, key_dim, value_dim;
    RopePairing pairing;
    int rotated_dims;
};

/// A cache of random entries in host memory and queries to it, as kernels get them, with what attention should find.
template <class Q, class T>
class AttentionCase {
public:
    static constexpr float scale = 0.4F;

    /// `sizes` are the entries of each list before the call. All memory behind them has entries as well.
    AttentionCase(const AttentionShape& shape, int capacity, int tokens, std::vector<std::int32_t> sizes)
        : shape_(shape),
          capacity_(capacity),
          tokens_(tokens),
          sizes_(std::move(sizes)),
          keys_(filled<T>(lists() * shape.kv_heads * capacity * shape.key_dim, 1)),
          values_(filled<T>(lists() * shape.kv_heads * capacity * shape.value_dim, 1)),
          queries_(filled<Q>(Index{tokens} * query_heads() * shape.key_dim, 3)),
          turns_(detail::rope_frequencies_in_turns(rope_frequencies(rope()))),
          results_(static_cast<std::size_t>(Index{tokens} * query_heads() * shape.value_dim), Q(-7.0F)) {}

    int query_heads() const { return shape_.kv_heads * shape_.group; }

    template <class Task>
    void describe(Task& task) {
        task.queries = queries_.data();
        task.query_head_stride = shape_.key_dim;
        task.query_token_stride = Index{query_heads()} * shape_.key_dim;
        task.results = results_.data();
        task.result_head_stride = shape_.value_dim;
        task.result_token_stride = Index{query_heads()} * shape_.value_dim;
        task.keys = keys_.data();
        task.values = values_.data();
        task.sizes = sizes_.data();
        task.frequencies = turns_.data();
        task.key_columns =
            detail::Columns{shape_.key_dim, shape_.rotated_dims / 2, shape_.pairing == RopePairing::half_split};
        task.kv_heads = shape_.kv_heads;
        task.group = shape_.group;
        task.capacity = capacity_;
        task.key_dim = shape_.key_dim;
        task.value_dim = shape_.value_dim;
        task.scale = scale;
    }

    /// Makes what lies behind `entries` entries of a list no number.
    void spoil_behind(int list, int entries) {
        for (int h = 0; h < shape_.kv_heads; ++h) {
            const Index row = Index{list * shape_.kv_heads + h} * capacity_;
            for (int e = entries; e < capacity_; ++e) {
                keys_.data()[(row + e) * shape_.key_dim] = static_cast<T>(NAN);
                values_.data()[(row + e) * shape_.value_dim] = static_cast<T>(NAN);
            }
        }
    }

    std::vector<Q>& results() { return results_; }

    naive::Row result(int token, int head) const {
        return row(results_.data(), Index{token} * query_heads() + head, shape_.value_dim);
    }

    /// What row `token` of the queries finds, which is token `behind` of the call in its list.
    naive::Row expected(int token, int head, int list, int behind) const {
        const int entries = sizes_[static_cast<std::size_t>(list)] + behind + 1;
        naive::Row query = naive::rotated(
            row(queries_.data(), Index{token} * query_heads() + head, shape_.key_dim), entries - 1,
            {static_cast<std::size_t>(shape_.rotated_dims), rope().base, shape_.pairing == RopePairing::adjacent});
        // attended() divides by the root of the dimensions.
        for (double& x : query) x *= static_cast<double>(scale) * std::sqrt(static_cast<double>(shape_.key_dim));
        naive::Rows keys;
        naive::Rows values;
        const Index first = Index{list * shape_.kv_heads + head / shape_.group} * capacity_;
        for (int e = 0; e < entries; ++e) {
            keys.push_back(row(keys_.data(), first + e, shape_.key_dim));
            values.push_back(row(values_.data(), first + e, shape_.value_dim));
        }
        return naive::attended(query, keys, values);
    }

private:
    Index lists() const { return static_cast<Index>(sizes_.size()); }

    RopeOptions rope() const {
        return {
            .head_dim = shape_.key_dim, .rotated_dims = shape_.rotated_dims, .base = 500, .pairing = shape_.pairing};
    }

    template <class X>
    AlignedBuffer<X> filled(Index count, double largest) {
        AlignedBuffer<X> values(count);
        for (Index i = 0; i < count; ++i) values.data()[i] = static_cast<X>(static_cast<float>(largest * next_()));
        return values;
    }

    template <class X>
    static naive::Row row(const X* rows, Index r, int dim) {
        naive::Row row;
        for (int d = 0; d < dim; ++d) row.push_back(static_cast<double>(rows[r * dim + d]));
        return row;
    }

    naive::Random next_{3};
    AttentionShape shape_;
    int capacity_;
    int tokens_;
    std::vector<std::int32_t> sizes_;
    AlignedBuffer<T> keys_, values_;
    AlignedBuffer<Q> queries_;
    std::vector<std::uint64_t> turns_;
    std::vector<Q> results_;
};

}  // namespace freqkv::cuda
