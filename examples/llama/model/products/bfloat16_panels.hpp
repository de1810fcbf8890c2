// SPDX-License-Identifier: MIT
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "llama/model/dequantize.hpp"
#include "llama/model/products/kernels.hpp"

// Weights and activations in bfloat16. Needs AVX-512 with bfloat16. Unnamed, as byte_blocks.hpp.
namespace llama::detail {
namespace {

constexpr Index panel_lanes = 16;

/// At most columns_at_once columns of largest_tile_rows rows, by groups of 16 of them: for each two columns, those of
/// the 16 rows.
struct BFloat16Panels {
    alignas(64) std::uint32_t pairs[largest_tile_rows / panel_lanes][columns_at_once / 2][panel_lanes];
};

inline __m512i load_512(const void* from) { return _mm512_loadu_si512(from); }

/// Columns become rows of a 16 x 16 matrix.
inline void transpose(__m512i (&rows)[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // rows[4 i + j]: column j of each quarter, of rows 4 i to 4 i + 3.
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; ++j) {
        const __m512i a = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0x88);
        const __m512i b = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0x88);
        const __m512i d = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0xdd);
        t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; ++i) rows[i] = t[i];
}

inline __m512i to_bfloat16(const float* x) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

/// The last `count` < 32 of some numbers, and zeros.
inline __m512i to_bfloat16(const float* x, Index count) {
    float all[32] = {};
    std::memcpy(all, x, static_cast<std::size_t>(count) * sizeof(float));
    return to_bfloat16(all);
}

inline void round_to_bfloat16(const float* x, Index columns, std::uint16_t* to) {
    Index i = 0;
    for (; i + 32 <= columns; i += 32) _mm512_storeu_si512(to + i, to_bfloat16(x + i));
    if (i < columns) _mm512_storeu_si512(to + i, to_bfloat16(x + i, columns - i));
}

/// Columns [first, first + columns) of a group of rows, with zeros up to whole pairs of 16 columns.
inline void pack(const WeightRows& w, Index group, Index first, Index columns, BFloat16Panels& panels) {
    const Index first_row = group * panel_lanes;
    const Index rows = w.rows - first_row < panel_lanes ? w.rows - first_row : panel_lanes;
    const Weights weights{w.data, w.type, w.rows, w.columns};
    constexpr Index step = 256;  // the block of every type fits
    alignas(64) float numbers[panel_lanes][step];
    for (Index column = 0; column < columns; column += step) {
        const Index count = columns - column < step ? columns - column : step;
        if (w.type != WeightType::bf16) {
            for (Index r = 0; r < rows; ++r) dequantize(weights, first_row + r, first + column, count, numbers[r]);
        }
        for (Index i = 0; i < count; i += 32) {
            const Index part = count - i < 32 ? count - i : 32;
            __m512i block[16];
            for (Index r = 0; r < panel_lanes; ++r) {
                if (r >= rows) {
                    block[r] = _mm512_setzero_si512();
                } else if (w.type == WeightType::bf16) {
                    const std::byte* const from = w.data + (first_row + r) * w.row_bytes + 2 * (first + column + i);
                    block[r] = _mm512_maskz_loadu_epi16(part == 32 ? ~__mmask32{0} : (__mmask32{1} << part) - 1, from);
                } else {
                    block[r] = part == 32 ? to_bfloat16(numbers[r] + i) : to_bfloat16(numbers[r] + i, part);
                }
            }
            transpose(block);
            for (int k = 0; k < 16; ++k) _mm512_store_si512(panels.pairs[group][(column + i) / 2 + k], block[k]);
        }
    }
}

}  // namespace
}  // namespace llama::detail
