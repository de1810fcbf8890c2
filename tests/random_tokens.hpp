// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include "freqkv/view.hpp"
#include "naive.hpp"

namespace naive {

using freqkv::Index;

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
