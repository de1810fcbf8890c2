// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "freqkv/in_place.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "naive.hpp"
#if defined(FREQKV_TEST_DEVICE)
#include "cuda/device_in_place_compressor.hpp"
#endif

namespace freqkv::in_place_test {

// What is tested: the call on the host or, in tests/cuda, on a device, which knows no double and no selections.
#if defined(FREQKV_TEST_DEVICE)
template <class T, class P = LowPass<>>
using Compressor = DeviceInPlaceCompressor<T, P>;
template <class T>
using RopeOf = DeviceRope;
using Stored = testing::Types<float, Eigen::half, Eigen::bfloat16>;
constexpr bool on_device = true;
#else
template <class T, class P = LowPass<>>
using Compressor = InPlaceCompressor<T, P>;
template <class T>
using RopeOf = Rope<Arithmetic<T>>;
using Stored = testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
constexpr bool on_device = false;
#endif

// How engines lay out one layer; every layout leaves room that does not belong to the view.
enum class Layout {
    head_major,    // [heads, room for tokens, dim], as llama.cpp's siblings and ONNX Runtime
    token_major,   // [tokens, heads, dim] and padding behind each token
    transposed,    // [heads, dim, room for tokens], as llama.cpp keeps values
    interleaved,   // [tokens, heads, {key, value}, dim], as gemma.cpp
    every_second,  // no axis is dense
    backwards,     // the newest token first
};
inline constexpr std::array all_layouts{Layout::head_major,  Layout::token_major,  Layout::transposed,
                                        Layout::interleaved, Layout::every_second, Layout::backwards};

inline std::string name_of(Layout layout) {
    constexpr std::array names{"head-major", "token-major", "transposed", "interleaved", "every second", "backwards"};
    return names[static_cast<std::size_t>(layout)];
}

struct Shape {
    Index heads = 2;
    Index tokens = 0;
    Index key_dim = 12;
    Index value_dim = 10;
};

// One layer's cache in another engine's memory: keys and values as views into one buffer, the rest of which
// is filled with a pattern that must survive.
template <class T>
class ForeignCache {
public:
    ForeignCache(const Shape& shape, Layout layout) {
        const Index keys_size = 2 * shape.heads * (shape.tokens + 5) * (shape.key_dim + 3);
        const Index values_size = 2 * shape.heads * (shape.tokens + 5) * (shape.value_dim + 3);
        memory_.assign(static_cast<std::size_t>(keys_size + values_size), pattern());
        keys = view(shape, layout, shape.key_dim, 0);
        values = view(shape, layout, shape.value_dim, layout == Layout::interleaved ? shape.key_dim : keys_size);
        inside_.assign(memory_.size(), 0);
        for (const KVView<T>& x : {keys, values}) {
            for_each(x, [&](T& element) { ++inside_[static_cast<std::size_t>(&element - memory_.data())]; });
        }
        EXPECT_EQ(*std::max_element(inside_.begin(), inside_.end()), 1) << "the test's own layout is wrong";
    }
    ForeignCache(const ForeignCache&) = delete;
    ForeignCache& operator=(const ForeignCache&) = delete;

    KVView<T> keys, values;

    static naive::Row row(const KVView<T>& x, Index head, Index token) {
        naive::Row result;
        for (Index d = 0; d < x.head_dim; ++d) result.push_back(static_cast<double>(x.head(head)(token, d)));
        return result;
    }
    static void set_row(const KVView<T>& x, Index head, Index token, const naive::Row& row) {
        for (Index d = 0; d < x.head_dim; ++d) {
            x.head(head)(token, d) = static_cast<T>(static_cast<Arithmetic<T>>(row[static_cast<std::size_t>(d)]));
        }
    }

    std::vector<T> bytes() const { return memory_; }
    bool holds(const std::vector<T>& bytes) const {
        return std::memcmp(memory_.data(), bytes.data(), bytes.size() * sizeof(T)) == 0;
    }
    void expect_rest_untouched() const {
        const T wanted = pattern();
        for (std::size_t i = 0; i < memory_.size(); ++i) {
            if (inside_[i] == 0) {
                ASSERT_EQ(std::memcmp(&memory_[i], &wanted, sizeof(T)), 0) << "element " << i << " is not of the views";
            }
        }
    }

private:
    static T pattern() { return static_cast<T>(-77.5F); }

    KVView<T> view(const Shape& s, Layout layout, Index dim, Index begin) {
        T* const data = memory_.data() + begin;
        const Index room = s.tokens + 5;
        const Index both = s.key_dim + s.value_dim;
        switch (layout) {
            case Layout::head_major:
                return {data, s.heads, s.tokens, dim, room * dim, dim, 1};
            case Layout::token_major:
                return {data, s.heads, s.tokens, dim, dim, s.heads * dim + 3, 1};
            case Layout::transposed:
                return {data, s.heads, s.tokens, dim, dim * room, 1, room};
            case Layout::interleaved:
                return {data, s.heads, s.tokens, dim, both, s.heads * both, 1};
            case Layout::every_second:
                return {data + 1, s.heads, s.tokens, dim, 2 * room * dim, 2 * dim, 2};
            case Layout::backwards:
                return {data + (s.tokens - 1) * dim, s.heads, s.tokens, dim, room * dim, -dim, 1};
        }
        return {};
    }

    template <class F>
    static void for_each(const KVView<T>& x, F&& f) {
        for (Index h = 0; h < x.heads; ++h) {
            for (Index t = 0; t < x.tokens; ++t) {
                for (Index d = 0; d < x.head_dim; ++d) f(x.head(h)(t, d));
            }
        }
    }

    std::vector<T> memory_;
    std::vector<int> inside_;
};

inline RopeOptions rope_options(const Shape& shape, RopePairing pairing, Index rotated_dims) {
    return {.head_dim = shape.key_dim,
            .rotated_dims = rotated_dims,
            .base = 5000,
            .pairing = pairing,
            .frequency_factors = std::vector<double>(static_cast<std::size_t>(rotated_dims / 2), 1.25)};
}

inline naive::Rotary naive_rotary(const RopeOptions& options) {
    return {static_cast<std::size_t>(options.rotated_dims), options.base, options.pairing == RopePairing::adjacent,
            options.linear_scaling, options.frequency_factors};
}

// A key or value: slow, as they are, and some noise.
inline naive::Row random_row(naive::Random& next, Index dim, Index token) {
    naive::Row row;
    for (Index d = 0; d < dim; ++d) {
        row.push_back(std::sin(0.05 * static_cast<double>(token * (d + 1))) + 0.3 * next());
    }
    return row;
}

template <class T>
double largest_of(const KVView<T>& x, Index tokens) {
    double largest = 0;
    for (Index h = 0; h < x.heads; ++h) {
        for (Index t = 0; t < tokens; ++t) {
            for (const double value : ForeignCache<T>::row(x, h, t)) largest = std::max(largest, std::abs(value));
        }
    }
    return largest;
}

// Fills both caches with random entries at the given positions: `stored` with rotated keys.
template <class T>
void fill(ForeignCache<T>& stored, const std::vector<Index>& positions, const RopeOptions& rope, std::uint64_t seed) {
    naive::Random next(seed);
    for (Index h = 0; h < stored.keys.heads; ++h) {
        for (Index t = 0; t < stored.keys.tokens; ++t) {
            const naive::Row key = random_row(next, stored.keys.head_dim, t);
            const Index position = positions[static_cast<std::size_t>(t)];
            stored.set_row(stored.keys, h, t, naive::rotated(key, position, naive_rotary(rope)));
            stored.set_row(stored.values, h, t, random_row(next, stored.values.head_dim, t));
        }
    }
}

inline std::vector<Index> positions_from_zero(Index tokens) {
    std::vector<Index> positions(static_cast<std::size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    return positions;
}

template <class T>
class InPlace : public testing::Test {};

}  // namespace freqkv::in_place_test
