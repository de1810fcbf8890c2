// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "freqkv/block_view.hpp"
#include "freqkv/ggml.hpp"
#include "freqkv/scaled_view.hpp"
#include "freqkv/stored_element.hpp"
#include "naive.hpp"

// Keys or values of one layer as other engines quantise them, read and judged by the formats' definitions, in double
// and from the bytes, sharing no code with the library.
namespace freqkv::foreign_rows_test {

using Bytes = std::vector<unsigned char>;

struct LayerShape {
    Index heads = 2;
    Index tokens = 40;
    Index head_dim = 64;
};

// Where rows lie; every layout leaves room that does not belong to the view.
enum class RowLayout { token_major, padded, head_major, backwards };
inline constexpr RowLayout all_row_layouts[]{RowLayout::token_major, RowLayout::padded, RowLayout::head_major,
                                             RowLayout::backwards};

// Strides in units of which a row has `row`.
struct RowStrides {
    Index begin, head, token;

    RowStrides(const LayerShape& shape, Index row, RowLayout layout) {
        const Index room = shape.tokens + 3;
        begin = 2 * row;
        head = layout == RowLayout::head_major ? room * row : row;
        token = layout == RowLayout::head_major ? row : shape.heads * row + (layout == RowLayout::padded ? 5 : 0);
        if (layout == RowLayout::backwards) {
            begin += (shape.tokens - 1) * token;
            token = -token;
        }
    }
    static std::size_t size(const LayerShape& shape, Index row) {
        return static_cast<std::size_t>((shape.tokens + 8) * (shape.heads * row + 5));
    }
};

inline double from_half(const unsigned char* bytes) {
    return static_cast<double>(
        Eigen::numext::bit_cast<Eigen::half>(static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8)));
}

inline double largest_of(const naive::Row& x) {
    double largest = 0;
    for (const double value : x) largest = std::max(largest, std::abs(value));
    return largest;
}

// What was computed in float may round the other way where it is near the middle of two levels.
constexpr double near_half = 0.5 + 2e-3;

// Expects 32 elements of Q8_0 in `bytes` to be what x is quantised to.
inline void expect_quantised(const ggml::Q8_0& block, const double* x) {
    unsigned char bytes[34];
    std::memcpy(bytes, &block, 34);
    const double scale = largest_of({x, x + 32}) / 127;
    ASSERT_NEAR(from_half(bytes), scale, scale * 0x1p-10 + 0x1p-25);
    for (std::size_t j = 0; j < 32 && scale > 0; ++j) {
        ASSERT_NEAR(static_cast<std::int8_t>(bytes[2 + j]), x[j] / scale, near_half) << "element " << j;
    }
}
inline void expect_quantised(const ggml::Q4_0& block, const double* x) {
    unsigned char bytes[18];
    std::memcpy(bytes, &block, 18);
    const double stored = from_half(bytes), largest = largest_of({x, x + 32});
    double extreme = 0;  // of opposite signs and nearly the same magnitude either will do
    for (std::size_t j = 0; j < 32; ++j) {
        if (x[j] * stored <= 0 && std::abs(x[j]) > std::abs(extreme)) extreme = x[j];
    }
    const double scale = extreme / -8;
    ASSERT_GE(std::abs(extreme), largest * (1 - 1e-5));
    ASSERT_NEAR(stored, scale, std::abs(scale) * 0x1p-10 + 0x1p-25);
    for (std::size_t j = 0; j < 32 && scale != 0; ++j) {
        const int code = j < 16 ? bytes[2 + j] & 15 : bytes[2 + j - 16] >> 4;
        ASSERT_NEAR(code, std::min(15.0, x[j] / scale + 8), near_half) << "element " << j;
    }
}

inline double element(const ggml::Q8_0& block, std::size_t j) {
    unsigned char bytes[34];
    std::memcpy(bytes, &block, 34);
    return from_half(bytes) * static_cast<std::int8_t>(bytes[2 + j]);
}
inline double element(const ggml::Q4_0& block, std::size_t j) {
    unsigned char bytes[18];
    std::memcpy(bytes, &block, 18);
    return from_half(bytes) * ((j < 16 ? bytes[2 + j] & 15 : bytes[2 + j - 16] >> 4) - 8);
}

// ggml's blocks: random levels, which no quantiser has made, and random scales.
template <class B>
class BlockLayer {
public:
    using View = BlockView<B>;
    static constexpr Index multiple = 32;

    BlockLayer(const LayerShape& shape, RowLayout layout, std::uint64_t seed)
        : memory_(RowStrides::size(shape, shape.head_dim / 32)) {
        std::memset(static_cast<void*>(memory_.data()), 0x5a, memory_.size() * sizeof(B));
        const RowStrides strides(shape, shape.head_dim / 32, layout);
        view = View(memory_.data() + strides.begin, shape.heads, shape.tokens, shape.head_dim, strides.head,
                    strides.token);
        untouched_.assign(memory_.size(), 1);
        naive::Random next(seed);
        for (Index h = 0; h < shape.heads; ++h) {
            for (Index t = 0; t < shape.tokens; ++t) {
                for (Index b = 0; b < shape.head_dim / 32; ++b) {
                    B& block = view.row(h, t)[b];
                    untouched_[static_cast<std::size_t>(&block - memory_.data())] = 0;
                    unsigned char bytes[sizeof(B)];
                    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(128 + 128 * next());
                    const auto scale = std::bit_cast<std::uint16_t>(Eigen::half(static_cast<float>(0.02 * next())));
                    std::memcpy(bytes, &scale, 2);
                    std::memcpy(static_cast<void*>(&block), bytes, sizeof bytes);
                }
            }
        }
    }

    View view;

    naive::Row decoded(Index h, Index t) const {
        naive::Row row;
        for (Index d = 0; d < view.head_dim; ++d) {
            row.push_back(element(view.row(h, t)[d / 32], static_cast<std::size_t>(d % 32)));
        }
        return row;
    }
    Bytes bits(Index h, Index t) const {
        const auto* const bytes = reinterpret_cast<const unsigned char*>(view.row(h, t));
        return {bytes, bytes + static_cast<std::size_t>(view.head_dim / 32) * sizeof(B)};
    }
    void expect_quantised_from(Index h, Index t, const naive::Row& x) const {
        for (Index b = 0; b < view.head_dim / 32; ++b) {
            ASSERT_NO_FATAL_FAILURE(expect_quantised(view.row(h, t)[b], x.data() + 32 * b)) << "block " << b;
        }
    }
    Bytes all() const {
        const auto* const bytes = reinterpret_cast<const unsigned char*>(memory_.data());
        return {bytes, bytes + memory_.size() * sizeof(B)};
    }
    void expect_rest_untouched() const {
        const Bytes bytes = all();
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            if (untouched_[i / sizeof(B)] != 0) {
                ASSERT_EQ(bytes[i], 0x5a) << "byte " << i << " is not of the view";
            }
        }
    }

private:
    std::vector<B> memory_;
    std::vector<char> untouched_;
};

// 8 bits with a scale for each row and head; levels in every second element, or one behind the other.
template <class S>
class ScaledLayer {
public:
    using View = ScaledView<S>;
    static constexpr Index multiple = 1;

    ScaledLayer(const LayerShape& shape, RowLayout layout, std::uint64_t seed)
        : levels_(2 * RowStrides::size(shape, shape.head_dim), 0x5a),
          scales_(RowStrides::size(shape, 1)),
          untouched_(levels_.size(), 1) {
        std::memset(static_cast<void*>(scales_.data()), 0x5a, scales_.size() * sizeof(S));
        const Index step = layout == RowLayout::padded ? 2 : 1;
        const RowStrides strides(shape, step * shape.head_dim, layout), of_scales(shape, 1, layout);
        view.levels = {levels_.data() + strides.begin,
                       shape.heads,
                       shape.tokens,
                       shape.head_dim,
                       strides.head,
                       strides.token,
                       step};
        view.scales = {scales_.data() + of_scales.begin, shape.tokens, shape.heads, of_scales.token, of_scales.head};
        naive::Random next(seed);
        for (Index h = 0; h < shape.heads; ++h) {
            for (Index t = 0; t < shape.tokens; ++t) {
                view.scales(t, h) = S(static_cast<float>(0.02 * (next() + 1.1)));
                for (Index d = 0; d < shape.head_dim; ++d) {
                    std::int8_t& level = view.levels.head(h)(t, d);
                    level = static_cast<std::int8_t>(128 * next());
                    untouched_[static_cast<std::size_t>(&level - levels_.data())] = 0;
                }
            }
        }
    }

    View view;

    naive::Row decoded(Index h, Index t) const {
        naive::Row row;
        for (Index d = 0; d < view.levels.head_dim; ++d) row.push_back(view.levels.head(h)(t, d) * scale(h, t));
        return row;
    }
    Bytes bits(Index h, Index t) const {
        Bytes bytes(sizeof(S));
        std::memcpy(bytes.data(), &view.scales(t, h), sizeof(S));
        for (Index d = 0; d < view.levels.head_dim; ++d) {
            bytes.push_back(static_cast<unsigned char>(view.levels.head(h)(t, d)));
        }
        return bytes;
    }
    void expect_quantised_from(Index h, Index t, const naive::Row& x) const {
        const double wanted = largest_of(x) / 127;
        const double rounding = std::is_same_v<S, float> ? 1e-6 : std::is_same_v<S, BFloat16> ? 0x1p-8 : 0x1p-10;
        ASSERT_NEAR(scale(h, t), wanted, wanted * rounding + (std::is_same_v<S, Half> ? 0x1p-25 : 0));
        for (std::size_t d = 0; d < x.size(); ++d) {
            const double level = wanted == 0 ? 0 : std::clamp(x[d] / scale(h, t), -127.0, 127.0);
            ASSERT_NEAR(view.levels.head(h)(t, static_cast<Index>(d)), level, near_half) << "element " << d;
        }
    }
    Bytes all() const {
        Bytes bytes(levels_.size() + scales_.size() * sizeof(S));
        std::memcpy(bytes.data(), levels_.data(), levels_.size());
        std::memcpy(bytes.data() + levels_.size(), scales_.data(), scales_.size() * sizeof(S));
        return bytes;
    }
    void expect_rest_untouched() const {
        for (std::size_t i = 0; i < levels_.size(); ++i) {
            if (untouched_[i] != 0) {
                ASSERT_EQ(levels_[i], 0x5a) << "level " << i << " is not of the view";
            }
        }
    }

private:
    double scale(Index h, Index t) const { return static_cast<double>(static_cast<float>(view.scales(t, h))); }

    std::vector<std::int8_t> levels_;
    std::vector<S> scales_;
    std::vector<char> untouched_;
};

// Each block of x times the Hadamard matrix H(i, j) = (-1)^(ones of i & j) / sqrt(block).
inline naive::Row hadamard_of(const naive::Row& x, Index block) {
    const auto n = static_cast<std::size_t>(block);
    naive::Row y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t j = 0; j < n; ++j) {
            const double sign = std::popcount(i % n & j) % 2 == 0 ? 1 : -1;
            y[i] += sign * x[i / n * n + j] / std::sqrt(static_cast<double>(n));
        }
    }
    return y;
}

}  // namespace freqkv::foreign_rows_test
