// SPDX-License-Identifier: MIT
#include "llama/model/plain_weights.hpp"

#include <cstring>

#include <Eigen/Core>

namespace llama {

namespace {

template <class Number>
void widen(const std::byte* from, Index count, float* to) {
    for (Index i = 0; i < count; ++i) {
        Number number;
        std::memcpy(static_cast<void*>(&number), from + i * Index{sizeof(Number)}, sizeof(Number));
        to[i] = static_cast<float>(number);
    }
}

template <class Number>
void narrow(const float* from, Index count, std::byte* to) {
    for (Index i = 0; i < count; ++i) {
        const Number number(from[i]);
        std::memcpy(to + i * Index{sizeof(Number)}, static_cast<const void*>(&number), sizeof(Number));
    }
}

}  // namespace

void to_floats(const std::byte* from, WeightType type, Index count, float* to) {
    if (type == WeightType::f16) return widen<Eigen::half>(from, count, to);
    if (type == WeightType::bf16) return widen<Eigen::bfloat16>(from, count, to);
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

void from_floats(const float* from, WeightType type, Index count, std::byte* to) {
    if (type == WeightType::f16) return narrow<Eigen::half>(from, count, to);
    if (type == WeightType::bf16) return narrow<Eigen::bfloat16>(from, count, to);
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace llama
