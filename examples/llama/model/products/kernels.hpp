// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "llama/model/weights.hpp"

// Products with rounded activations, by what the processor can do. Each set of kernels is a source of its own, compiled
// for its instructions; a program has all of them and chooses when it runs. Such a source calls no inline function of
// any other header: a linker keeps one copy of those, which then would run on every processor.
namespace llama::detail {

/// Consecutive rows of a matrix.
struct WeightRows {
    const std::byte* data;
    WeightType type;
    Index row_bytes;
    Index rows;
    Index columns;
};

/// Activations of consecutive tokens as 8-bit integers with a scale for each 32: x[t, i] is about scales[t, i / 32] *
/// bytes[t, i].
struct ByteActivations {
    std::int8_t* bytes;  ///< [tokens, columns]
    float* scales;       ///< [tokens, columns / 32]
    float* sums;         ///< [tokens, columns / 32] of rounded activations
    float* half_sums;    ///< [tokens, columns / 16]
};

/// Rows that a tile has at most, and columns of it that are unpacked at once.
inline constexpr Index largest_tile_rows = 64;
inline constexpr Index columns_at_once = 2048;

/// Bytes of scratch that multiply_tile needs, aligned for any register.
inline constexpr Index tile_scratch = largest_tile_rows * columns_at_once * 2;

/// Products of quantised weights with bytes, in integers within each scale.
struct ByteKernels {
    const char* name;  ///< of the instructions
    /// Rounds one token's activations; columns is a multiple of 32.
    void (*round)(const float* x, Index columns, const ByteActivations& to);
    /// out [rows], of one token.
    void (*multiply_rows)(const WeightRows& weights, const ByteActivations& x, float* out);
    /// out [tokens, rows], the tokens `stride` apart; of at most largest_tile_rows rows.
    void (*multiply_tile)(const WeightRows& weights, const ByteActivations& x, Index tokens, float* out, Index stride,
                          std::byte* scratch);
};

/// Products of any weights with activations in bfloat16; weights of other types are rounded to it, too.
struct BFloat16Kernels {
    const char* name;
    bool quantised;  ///< also the fastest for weights that ByteKernels take
    /// Rounds one token's activations to [padded(columns, bfloat16_columns)] numbers, the last of which are zeros.
    void (*round)(const float* x, Index columns, std::uint16_t* to);
    /// As ByteKernels::multiply_tile; x [padded(tokens, bfloat16_tokens), padded(columns, bfloat16_columns)].
    void (*multiply_tile)(const WeightRows& weights, const std::uint16_t* x, Index tokens, float* out, Index stride,
                          std::byte* scratch);
};

inline constexpr Index bfloat16_tokens = 32;
inline constexpr Index bfloat16_columns = 32;
constexpr Index padded(Index count, Index step) { return (count + step - 1) / step * step; }

// Those of each source; null if it could not be compiled for its instructions.
extern const ByteKernels* const avx2_bytes;
extern const ByteKernels* const avx_vnni_bytes;
extern const ByteKernels* const avx512_vnni_bytes;
extern const BFloat16Kernels* const avx512_bfloat16;
extern const BFloat16Kernels* const amx_bfloat16;

/// All that this processor can run, the fastest first.
std::span<const ByteKernels* const> byte_kernels();
std::span<const BFloat16Kernels* const> bfloat16_kernels();

}  // namespace llama::detail
