// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/ggml.hpp"
#include "freqkv/stored_element.hpp"

// Rows of ggml's blocks as rows of float, and back.
namespace freqkv::detail::inline FREQKV_ISA {

// The levels of elements [i, i + 16) of a block.
FREQKV_INLINE LevelBytes load_levels(const ggml::Q8_0& block, Index i) {
    return load_bits<LevelBytes>(block.levels.data() + i);
}
FREQKV_INLINE LevelBytes load_levels(const ggml::Q4_0& block, Index i) {
    const auto codes = load_bits<CodeBytes>(block.codes.data());
    return reinterpret_cast<LevelBytes>(i == 0 ? codes & 15 : codes >> 4) - 8;
}

// `count` elements, a multiple of a block's.
template <ggml::Block B>
[[gnu::flatten]] void unpack_row(const B* row, Index count, float* to) {
    for (Index d = 0; d < count; d += lane_count<float>) {
        const B& block = row[d / B::elements];
        const Index i = d % B::elements;
        store_lanes<float>(to + d, to_floats(load_levels(block, i / 16 * 16), i % 16) * to_float(block.scale));
    }
}

inline float largest_magnitude(const float* x, Index count) {
    Lanes<float> largest{};
    for (Index i = 0; i < count; i += lane_count<float>) {
        const Lanes<float> some = load_lanes<float>(x + i);
        largest = max_lanes<float>(some > 0 ? some : -some, largest);
    }
    float result = 0;
    for (Index i = 0; i < lane_count<float>; ++i) result = std::max(result, largest[i]);
    return result;
}

// Of NaN the lower one.
FREQKV_INLINE Lanes<float> bounded(Lanes<float> x, float lower, float upper) {
    const Lanes<float> above = max_lanes<float>(x, Lanes<float>{} + lower);
    return above < upper ? above : Lanes<float>{} + upper;
}

[[gnu::flatten]] inline void pack_block(const float* x, ggml::Q8_0& to) {
    const float scale = largest_magnitude(x, ggml::Q8_0::elements) / 127;
    const float inverse = scale == 0 ? 0 : 1 / scale;
    to.scale = Half(scale);
    for (Index i = 0; i < ggml::Q8_0::elements; i += lane_count<float>) {
        const Lanes<float> level = bounded(load_lanes<float>(x + i) * inverse, -127, 127);
        const auto whole = __builtin_convertvector(level, IntLanes<float>);
        const Lanes<float> rest = level - __builtin_convertvector(whole, Lanes<float>);
        // A comparison that holds is -1.
        const IntLanes<float> rounded = whole - (rest >= 0.5F) + (rest <= -0.5F);
        store_bits(to.levels.data() + i, __builtin_convertvector(rounded, LaneBytes));
    }
}

[[gnu::flatten]] inline void pack_block(const float* x, ggml::Q4_0& to) {
    const float largest = largest_magnitude(x, ggml::Q4_0::elements);
    Index at = 0;
    while (at < ggml::Q4_0::elements - 1 && std::abs(x[at]) != largest) ++at;
    const float scale = x[at] / -8;
    const float inverse = scale == 0 ? 0 : 1 / scale;
    to.scale = Half(scale);
    std::array<std::int8_t, ggml::Q4_0::elements> codes;
    for (Index i = 0; i < ggml::Q4_0::elements; i += lane_count<float>) {
        const Lanes<float> code = bounded(load_lanes<float>(x + i) * inverse + 8.5F, 0, 15);
        store_bits(codes.data() + i,
                   __builtin_convertvector(__builtin_convertvector(code, IntLanes<float>), LaneBytes));
    }
    store_bits(to.codes.data(), load_bits<CodeBytes>(codes.data()) | load_bits<CodeBytes>(codes.data() + 16) << 4);
}

// `count` elements, a multiple of a block's.
template <ggml::Block B>
void pack_row(const float* row, Index count, B* to) {
    for (Index d = 0; d < count; d += B::elements) pack_block(row + d, to[d / B::elements]);
}

}  // namespace freqkv::detail::inline FREQKV_ISA
