// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "llama/model/weights.hpp"

namespace llama {

/// F32, F16 or BF16: one number after the other, without blocks.
constexpr bool is_plain(WeightType type) {
    return type == WeightType::f32 || type == WeightType::f16 || type == WeightType::bf16;
}

/// Converts `count` numbers of a plain type, exactly. `from` need not be aligned.
void to_floats(const std::byte* from, WeightType type, Index count, float* to);

/// Rounds to the nearest number of a plain type, to even where two are as near. `to` need not be aligned.
void from_floats(const float* from, WeightType type, Index count, std::byte* to);

}  // namespace llama
