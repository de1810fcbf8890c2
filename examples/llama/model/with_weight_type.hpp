// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <Eigen/Core>

#include "llama/model/plain_weights.hpp"
#include "llama/model/quantized.hpp"
#include "llama/model/super_blocks.hpp"
#include "llama/model/weights.hpp"

namespace llama {

/// A number of a plain type of weights.
template <WeightType type>
    requires(is_plain(type))
using Number = std::conditional_t<type == WeightType::f32, float,
                                  std::conditional_t<type == WeightType::f16, Eigen::half, Eigen::bfloat16>>;

/// Calls f(std::integral_constant<WeightType, type>) for the type, which makes it a constant: of a Number<type> if it
/// is plain, else of a Block<type>.
template <class F>
void with_weight_type(WeightType type, F&& f) {
    const auto call_if = [&](auto candidate) {
        if (type == candidate) f(candidate);
    };
    [&]<std::size_t... i>(std::index_sequence<i...>) {
        (call_if(std::integral_constant<WeightType, static_cast<WeightType>(i)>{}), ...);
    }(std::make_index_sequence<weight_types>{});
}

}  // namespace llama
