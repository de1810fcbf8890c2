// SPDX-License-Identifier: MIT
#pragma once

#include "llama/model/weights.hpp"

namespace llama {

/// Numbers [first_column, first_column + columns) of a row of a matrix of any type, as float, to `out`. Both
/// column arguments are multiples of the type's block; `out` is aligned to nothing.
void dequantize(const Weights& weights, Index row, Index first_column, Index columns, float* out);

}  // namespace llama
