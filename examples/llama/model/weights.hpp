// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "freqkv/config.hpp"

namespace llama {

using freqkv::Index;

/// How the numbers of a weight matrix are stored. The quantised types are GGUF's: a row is a sequence of
/// blocks, each with scales of its own. A new one needs a line in weight_formats, too, and a Block to unpack it.
enum class WeightType : std::uint8_t {
    f32,
    f16,
    bf16,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    iq4_nl,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    iq4_xs,
};

struct WeightFormat {
    const char* name;  ///< as GGML spells it
    Index block;       ///< numbers of one block; the columns of a matrix are a multiple of it
    Index bytes;       ///< of one block
};

/// In the order of WeightType.
inline constexpr WeightFormat weight_formats[] = {
    {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},     {"Q4_0", 32, 18},   {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},   {"IQ4_NL", 32, 18}, {"Q2_K", 256, 84},
    {"Q3_K", 256, 110}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}, {"IQ4_XS", 256, 136},
};

inline constexpr std::size_t weight_types = std::size(weight_formats);

constexpr WeightFormat format_of(WeightType type) { return weight_formats[static_cast<std::size_t>(type)]; }

/// A weight matrix [rows, columns], row-major, as a file stores it. Rows of F32, F16 and BF16 are aligned to
/// their elements, others to nothing. Does not own.
struct Weights {
    const std::byte* data = nullptr;
    WeightType type = WeightType::f32;
    Index rows = 0;
    Index columns = 0;

    Index row_bytes() const {
        const WeightFormat format = format_of(type);
        return columns / format.block * format.bytes;
    }
    Index bytes() const { return rows * row_bytes(); }
    const std::byte* row(Index r) const { return data + r * row_bytes(); }
    Weights middle_rows(Index first, Index count) const { return {row(first), type, count, columns}; }
};

/// A matrix of float in memory.
inline Weights weights(const float* data, Index rows, Index columns) {
    return {reinterpret_cast<const std::byte*>(data), WeightType::f32, rows, columns};
}

}  // namespace llama
