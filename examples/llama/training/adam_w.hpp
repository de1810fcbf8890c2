// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>

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
        executor.for_each(static_cast<Index>(model.tensors().size()), [&](Index task, Index) {
            update(model.tensors()[static_cast<std::size_t>(task)], model.trained().data(), gradient.data(), factor,
                   learning_rate, step);
        });
    }

private:
    void update(const TrainableTensor& tensor, float* values, const float* gradient, double factor,
                double learning_rate, Index step);

    AdamWOptions options_;
    freqkv::AlignedBuffer<float> first_;   // mean of the gradient
    freqkv::AlignedBuffer<float> second_;  // mean of its square
};

}  // namespace llama
