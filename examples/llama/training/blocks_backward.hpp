// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>

#include <Eigen/Core>

#include "freqkv/config.hpp"

// The backward passes of the blocks in blocks.hpp. Gradients are added to where a sum is said, else written. C is
// float, or double for checking.
namespace llama {

using freqkv::Index;

/// Of y = x / rms(x) * weight, with d_y [n]: adds to d_x [n] and, unless null, to d_weight [n]. d_y may not overlap
/// them.
template <class C>
void rms_norm_backward(const C* x, const C* weight, const C* d_y, C* d_x, C* d_weight, Index n, C epsilon) {
    using Vector = Eigen::Map<Eigen::Array<C, Eigen::Dynamic, 1>>;
    using ConstVector = Eigen::Map<const Eigen::Array<C, Eigen::Dynamic, 1>>;
    const ConstVector in(x, n);
    const ConstVector gain(weight, n);
    const ConstVector gradient(d_y, n);
    const C scale = 1 / std::sqrt(in.square().sum() / static_cast<C>(n) + epsilon);
    const C along = (gradient * gain * in).sum() * scale * scale / static_cast<C>(n);
    Vector(d_x, n) += scale * (gradient * gain - along * in);
    if (d_weight != nullptr) Vector(d_weight, n) += gradient * in * scale;
}

/// Of y = silu(gate) * up, with d_y [n]: writes d_gate and d_up [n]; either may be d_y.
template <class C>
void swiglu_backward(const C* gate, const C* up, const C* d_y, C* d_gate, C* d_up, Index n) {
    using Vector = Eigen::Map<Eigen::Array<C, Eigen::Dynamic, 1>>;
    using ConstVector = Eigen::Map<const Eigen::Array<C, Eigen::Dynamic, 1>>;
    // In pieces that stay in the nearest cache.
    constexpr Index piece = 256;
    using Piece = Eigen::Array<C, Eigen::Dynamic, 1, 0, piece, 1>;
    for (Index i = 0; i < n; i += piece) {
        const Index count = std::min(piece, n - i);
        const ConstVector g(gate + i, count);
        const Piece d = ConstVector(d_y + i, count);
        const Piece sigmoid = 1 / (1 + (-g).exp());
        const Piece d_silu = d * ConstVector(up + i, count);
        Vector(d_up + i, count) = d * g * sigmoid;
        Vector(d_gate + i, count) = d_silu * sigmoid * (1 + g * (1 - sigmoid));
    }
}

/// Of the mean loss: `logits` [n] become the gradient of weight * loss with respect to them, softmax - one at
/// `target`, times weight. Returns the loss, the negative log-likelihood of `target` in nats.
template <class C>
double cross_entropy_backward(C* logits, Index n, Index target, C weight) {
    Eigen::Map<Eigen::Array<C, Eigen::Dynamic, 1>> z(logits, n);
    const C largest = z.maxCoeff();
    const auto difference = static_cast<double>(largest) - static_cast<double>(z[target]);
    z = (z - largest).exp();
    const C sum = z.sum();
    z *= weight / sum;
    z[target] -= weight;
    return std::log(static_cast<double>(sum)) + difference;
}

}  // namespace llama
