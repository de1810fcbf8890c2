// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/report.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The entries of one KV head. Keys are stored rotated.
template <class T>
class KVList {
public:
    using C = Arithmetic<T>;

    ListCounts counts;
    SpanList compressed;  // what the latest compression took, as the list was before it

    // `has_mass`: whether the attention given to each entry is summed; `weighted`: whether entries have weights.
    [[gnu::cold]] KVList(Index capacity, Index key_dim, Index value_dim, bool has_mass = false, bool weighted = false)
        : capacity_(capacity),
          key_dim_(key_dim),
          value_dim_(value_dim),
          keys_(checked_product("key storage", capacity, key_dim)),
          values_(checked_product("value storage", capacity, value_dim)),
          ranges_(capacity),
          mass_(has_mass ? capacity : 0),
          weights_(weighted ? capacity : 0),
          log_weights_(weighted ? capacity : 0) {}

    Index capacity() const { return capacity_; }
    MatrixView<T> keys() const { return {keys_.data(), counts.size, key_dim_}; }
    MatrixView<T> values() const { return {values_.data(), counts.size, value_dim_}; }
    TokenRange* ranges() const { return ranges_.data(); }         // [size]
    C* mass() const { return mass_.data(); }                      // [size], or null
    C* weights() const { return weights_.data(); }                // [size], tokens that each stands for, or null
    const C* log_weights() const { return log_weights_.data(); }  // [size], or null

    Index key_bytes() const { return keys_.bytes(); }
    Index value_bytes() const { return values_.bytes(); }
    Index range_bytes() const { return ranges_.bytes(); }
    Index mass_bytes() const { return mass_.bytes(); }
    Index weight_bytes() const { return weights_.bytes() + log_weights_.bytes(); }

    // After a compression has changed the weights.
    void find_log_weights() {
        for (Index i = 0; i < counts.size && weights_.size() > 0; ++i) {
            log_weights_.data()[i] = std::log(weights_.data()[i]);
        }
    }

    // Where the key and the query of a token are rotated that is entry `entry` as it came: at its index, or at its
    // place in the text in half steps.
    Index position(Index entry, bool of_text) const {
        return of_text ? 2 * (counts.tokens_seen - counts.size + entry) : entry;
    }

    // Appends rows [first, first + count) of k and v, for which there must be room. `angles` is scratch for
    // Rope::angles().
    template <class K, class V>
    void append(MatrixView<const K> k, MatrixView<const V> v, Index first, Index count, const Rope<C>& rope,
                bool positions_of_text, C* angles) {
        const Index token = counts.tokens_seen;
        for (Index t = 0; t < count; ++t) {
            const Index entry = counts.size + t;
            rope.turn(k.row(first + t), k.column_stride, keys_.data() + entry * key_dim_, 1,
                      rope.angles(position(entry, positions_of_text), angles));
            T* const value = values_.data() + entry * value_dim_;
            if (v.column_stride == 1) {
                convert_row(v.row(first + t), value_dim_, value);
            } else {
                for (Index d = 0; d < value_dim_; ++d) value[d] = static_cast<T>(static_cast<C>(v(first + t, d)));
            }
            ranges_.data()[entry] = {token + t, token + t + 1};
        }
        if (mass_.size() > 0) std::fill_n(mass_.data() + counts.size, count, C{0});
        if (weights_.size() > 0) {
            std::fill_n(weights_.data() + counts.size, count, C{1});
            std::fill_n(log_weights_.data() + counts.size, count, C{0});
        }
        counts.append(count);
    }

    // Makes room for `count` further entries, doubling so that the cost per token stays constant.
    void grow(Index count) {
        if (capacity_ - counts.size >= count) return;
        constexpr Index first_capacity = 256;
        KVList grown(std::max({first_capacity, 2 * capacity_, counts.size + count}), key_dim_,
                     value_dim_);  // all weigh 1
        std::copy_n(keys_.data(), counts.size * key_dim_, grown.keys_.data());
        std::copy_n(values_.data(), counts.size * value_dim_, grown.values_.data());
        std::copy_n(ranges_.data(), counts.size, grown.ranges_.data());
        grown.counts = counts;
        *this = std::move(grown);
    }

private:
    Index capacity_;
    Index key_dim_;
    Index value_dim_;
    AlignedBuffer<T> keys_;             // [capacity, key_dim]
    AlignedBuffer<T> values_;           // [capacity, value_dim]
    AlignedBuffer<TokenRange> ranges_;  // [capacity]
    AlignedBuffer<C> mass_;             // [capacity], or none
    AlignedBuffer<C> weights_;          // [capacity], or none
    AlignedBuffer<C> log_weights_;      // [capacity], or none
};

}  // namespace freqkv::detail::inline FREQKV_ISA
