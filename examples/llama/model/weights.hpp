// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "freqkv/config.hpp"

namespace llama {

using freqkv::Index;

/// How the numbers of a weight matrix are stored. The quantised types are GGUF's: a row is a sequence of
/// blocks, each with scales of its own.
enum class WeightType : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k, q6_k };

struct WeightFormat {
    const char* name;
    Index block;  ///< numbers of one block; the columns of a matrix are a multiple of it
    Index bytes;  ///< of one block
};

constexpr WeightFormat format_of(WeightType type) {
    switch (type) {
        case WeightType::f32:
            return {"F32", 1, 4};
        case WeightType::f16:
            return {"F16", 1, 2};
        case WeightType::bf16:
            return {"BF16", 1, 2};
        case WeightType::q8_0:
            return {"Q8_0", 32, 34};
        case WeightType::q4_0:
            return {"Q4_0", 32, 18};
        case WeightType::q4_k:
            return {"Q4_K", 256, 144};
        case WeightType::q6_k:
            return {"Q6_K", 256, 210};
    }
    return {};
}

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
