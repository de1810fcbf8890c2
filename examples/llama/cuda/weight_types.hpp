// SPDX-License-Identifier: MIT
#pragma once

#include <initializer_list>

#include "llama/model/checkpoint.hpp"
#include "llama/model/weights.hpp"

// How weights are stored on a GPU: as in the file where that is F32, F16 or BF16, quantised ones as F16.
namespace llama {

/// The type of matrices that are stacked into one.
WeightType device_type(std::initializer_list<const Weights*> parts);

/// The type of what most of a model's weights are, which is that of a GPU's cache unless an option says otherwise.
/// (Adapters leave these alone.)
WeightType device_type(const Checkpoint& checkpoint);

/// Bytes of all weights on a GPU.
Index device_bytes(const Checkpoint& checkpoint);

/// Rows [first, first + count) as f32, f16 or bf16, to `out`. Throws std::runtime_error if f16 cannot hold one.
void convert_rows(const Weights& weights, Index first, Index count, WeightType type, std::byte* out);

}  // namespace llama
