// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>

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

/// The place of the first of `count` numbers of a plain type that is infinite or none; `count`: all are finite.
Index find_not_finite(const std::byte* from, WeightType type, Index count);

/// "has an element that is infinite, at 7", which is `first` + place.
std::string describe_not_finite(const std::byte* from, WeightType type, Index place, Index first = 0);

}  // namespace llama
