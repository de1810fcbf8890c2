// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "freqkv/view.hpp"
#include "naive.hpp"

namespace naive {

using freqkv::Index;

inline Rows latest(const Rows& x, std::size_t keep) { return {x.end() - static_cast<std::ptrdiff_t>(keep), x.end()}; }

using Compress = std::function<Rows(const Rows&, std::size_t)>;

// The cache of one KV head as the method describes it, keys before rotation.
class Cache {
public:
    Cache(Index capacity, Index sinks, Index recent, double ratio, Compress compress)
        : capacity_(static_cast<std::size_t>(capacity)),
          sinks_(static_cast<std::size_t>(sinks)),
          span_(static_cast<std::size_t>(capacity - sinks - recent)),
          keep_(static_cast<std::size_t>(ratio * static_cast<double>(span_))),
          compress_(std::move(compress)) {}

    Rows keys, values;
    Index compressions = 0;

    void append(Row key, Row value) {
        if (keys.size() == capacity_) {
            compress_rows(keys);
            compress_rows(values);
            ++compressions;
        }
        keys.push_back(std::move(key));
        values.push_back(std::move(value));
    }

    // The latest token's query (un-rotated) against everything; scores are multiplied by `scale`.
    Row attend(Row query, const Rotary& rotary, double scale) const {
        // attended() scales by 1 / sqrt(dim) itself.
        for (double& x : query) x *= scale * std::sqrt(static_cast<double>(query.size()));
        Rows rotated_keys;
        for (std::size_t i = 0; i < keys.size(); ++i) {
            rotated_keys.push_back(rotated(keys[i], static_cast<std::int64_t>(i), rotary));
        }
        return attended(rotated(query, static_cast<std::int64_t>(keys.size()) - 1, rotary), rotated_keys, values);
    }

private:
    void compress_rows(Rows& rows) const {
        const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(sinks_);
        const auto end = begin + static_cast<std::ptrdiff_t>(span_);
        Rows result(rows.begin(), begin);
        for (Row& row : compress_(Rows(begin, end), keep_)) result.push_back(std::move(row));
        result.insert(result.end(), end, rows.end());
        rows = std::move(result);
    }

    std::size_t capacity_, sinks_, span_, keep_;
    Compress compress_;
};

template <class T>
Row row(const freqkv::MatrixView<T>& rows, Index r) {
    Row result;
    for (Index c = 0; c < rows.columns; ++c) result.push_back(static_cast<double>(rows(r, c)));
    return result;
}

// Random [heads, tokens, dim] in the token-major order of projections: slowly varying plus noise, as keys
// and values are.
template <class T>
class RandomTokens {
public:
    RandomTokens(Index heads, Index tokens, Index dim, unsigned seed) : heads_(heads), tokens_(tokens), dim_(dim) {
        Random random(seed);
        Row slow(static_cast<std::size_t>(heads * dim), 0.0);
        for (Index t = 0; t < tokens; ++t) {
            for (double& x : slow) {
                x = 0.95 * x + 0.5 * random();
                data_.push_back(static_cast<T>(x + 0.5 * random()));
            }
        }
    }

    freqkv::KVView<const T> view() const {
        return freqkv::KVView<const T>::token_major(data_.data(), heads_, tokens_, dim_);
    }
    freqkv::KVView<T> view() { return freqkv::KVView<T>::token_major(data_.data(), heads_, tokens_, dim_); }

private:
    Index heads_, tokens_, dim_;
    std::vector<T> data_;
};

}  // namespace naive
