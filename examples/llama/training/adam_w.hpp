// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include <Eigen/Core>

#include "freqkv/executor.hpp"
#include "freqkv/workspace.hpp"
#include "llama/training/trainable_llama.hpp"

namespace llama {

struct AdamWOptions {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0;  ///< of matrices, times the learning rate; norms and biases do not decay
};

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019), both moments bias-corrected.
class AdamW {
public:
    AdamW(Index count, const AdamWOptions& options) : options_(options), first_(count), second_(count) {
        std::fill_n(first_.data(), count, 0.0f);
        std::fill_n(second_.data(), count, 0.0f);
    }

    /// The moments [count], for saving and restoring.
    std::span<float> first() { return {first_.data(), static_cast<std::size_t>(first_.size())}; }
    std::span<float> second() { return {second_.data(), static_cast<std::size_t>(second_.size())}; }

    /// Step number `step`, from 1: changes the trained numbers against `factor` * gradient [count].
    template <freqkv::Executor E>
    void update(TrainableLlama& model, std::span<const float> gradient, double factor, double learning_rate, Index step,
                const E& executor) {
        using Array = Eigen::Map<Eigen::ArrayXf>;
        const auto steps = static_cast<double>(step);
        const auto size = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, steps)));
        const auto correction = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, steps)));
        const auto epsilon = static_cast<float>(options_.epsilon);
        const auto beta1 = static_cast<float>(options_.beta1);
        const auto beta2 = static_cast<float>(options_.beta2);
        const auto scale = static_cast<float>(factor);
        float* const values = model.trained().data();
        executor.for_each(static_cast<Index>(model.tensors().size()), [&](Index task, Index) {
            const TrainableTensor& tensor = model.tensors()[static_cast<std::size_t>(task)];
            const auto kept = static_cast<float>(1 - (tensor.is_matrix() ? learning_rate * options_.weight_decay : 0));
            const Index end = tensor.first + tensor.size;
            // In pieces that stay in the nearest cache.
            constexpr Index piece = 1024;
            for (Index i = tensor.first; i < end; i += piece) {
                const Index count = std::min(piece, end - i);
                const Eigen::Map<const Eigen::ArrayXf> g(gradient.data() + i, count);
                Array m(first_.data() + i, count);
                Array v(second_.data() + i, count);
                Array x(values + i, count);
                m = beta1 * m + ((1 - beta1) * scale) * g;
                v = beta2 * v + (1 - beta2) * (scale * g).square();
                x = kept * x - size * m / (v.sqrt() * correction + epsilon);
            }
        });
    }

private:
    AdamWOptions options_;
    freqkv::AlignedBuffer<float> first_;   // mean of the gradient
    freqkv::AlignedBuffer<float> second_;  // mean of its square
};

}  // namespace llama
