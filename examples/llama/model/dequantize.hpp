// SPDX-License-Identifier: MIT
#pragma once

#include "llama/model/weights.hpp"

namespace llama {

/// Numbers [first_column, first_column + columns) of a row of a matrix of any type, as float, to `out`. Both
/// column arguments are multiples of the type's block; `out` is aligned to nothing.
void dequantize(const Weights& weights, Index row, Index first_column, Index columns, float* out);

/// Rows [first, first + count), one after the other.
inline void dequantize_rows(const Weights& weights, Index first, Index count, float* out) {
    for (Index r = 0; r < count; ++r) dequantize(weights, first + r, 0, weights.columns, out + r * weights.columns);
}

}  // namespace llama
