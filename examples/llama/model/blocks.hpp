// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <numbers>

#include <Eigen/Core>

#include "freqkv/config.hpp"

// The blocks a Llama is made of, but for attention and the matrix products.
namespace llama {

using freqkv::Index;

/// y = x / rms(x) * (weight + offset), rms(x) = sqrt(mean(x^2) + epsilon); vectors of n elements, y may be x.
inline void rms_norm(const float* x, const float* weight, float* y, Index n, float epsilon, float offset = 0) {
    using Vector = Eigen::Map<Eigen::ArrayXf>;
    using ConstVector = Eigen::Map<const Eigen::ArrayXf>;
    const ConstVector in(x, n);
    const float scale = 1 / std::sqrt(in.square().sum() / static_cast<float>(n) + epsilon);
    Vector(y, n) = in * scale * (ConstVector(weight, n) + offset);
}

/// gate = silu(gate) * up, silu(x) = x / (1 + exp(-x)); vectors of n elements.
inline void swiglu(float* gate, const float* up, Index n) {
    Eigen::Map<Eigen::ArrayXf> g(gate, n);
    g = g / (1 + (-g).exp()) * Eigen::Map<const Eigen::ArrayXf>(up, n);
}

/// gate = gelu(gate) * up, gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); vectors of n elements.
inline void geglu(float* gate, const float* up, Index n) {
    Eigen::Map<Eigen::ArrayXf> g(gate, n);
    // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u))
    constexpr auto slope = static_cast<float>(-4 * std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    g = g / (1 + (slope * g * (1 + 0.044715f * g.square())).exp()) * Eigen::Map<const Eigen::ArrayXf>(up, n);
}

/// x = cap * tanh(x / cap); a vector of n elements.
inline void soft_cap(float* x, Index n, float cap) {
    Eigen::Map<Eigen::ArrayXf> values(x, n);
    values = cap * (values / cap).tanh();
}

}  // namespace llama
