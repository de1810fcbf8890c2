// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include <Eigen/Core>

#include "freqkv/config.hpp"

// The blocks a Llama is made of, but for attention and the matrix products.
namespace llama {

using freqkv::Index;

/// y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + epsilon); vectors of n elements, y may be x.
inline void rms_norm(const float* x, const float* weight, float* y, Index n, float epsilon) {
    using Vector = Eigen::Map<Eigen::ArrayXf>;
    using ConstVector = Eigen::Map<const Eigen::ArrayXf>;
    const ConstVector in(x, n);
    const float scale = 1 / std::sqrt(in.square().sum() / static_cast<float>(n) + epsilon);
    Vector(y, n) = in * scale * ConstVector(weight, n);
}

/// gate = silu(gate) * up, silu(x) = x / (1 + exp(-x)); vectors of n elements.
inline void swiglu(float* gate, const float* up, Index n) {
    Eigen::Map<Eigen::ArrayXf> g(gate, n);
    g = g / (1 + (-g).exp()) * Eigen::Map<const Eigen::ArrayXf>(up, n);
}

}  // namespace llama
