// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "freqkv/executor.hpp"
#include "freqkv/workspace.hpp"
#include "llama/training/training_data.hpp"

namespace llama {

class TrainingPass;

/// The gradient of the mean loss of a batch of texts. Each thread takes whole texts, a few at a time, with a gradient
/// of its own; these are added in the order of the texts, so that the result does not depend on the number of
/// threads.
class BatchGradient {
public:
    /// `make_pass()` makes one thread's pass. `batch` texts of up to `length` targets.
    BatchGradient(Index count, Index batch, Index length, Index threads,
                  const std::function<std::unique_ptr<TrainingPass>()>& make_pass);
    BatchGradient(const BatchGradient&) = delete;
    BatchGradient& operator=(const BatchGradient&) = delete;
    ~BatchGradient();

    /// Of texts [first, first + batch) of the data: returns the mean loss of the scored targets, in nats. `between` is
    /// called between texts, and may throw to give up.
    template <freqkv::Executor E>
    double run(const TrainingData& data, Index first, const E& executor, const std::function<void()>& between = {}) {
        start(data, first);
        const auto at_once = static_cast<Index>(workers_.size());
        for (Index group = 0; group < groups(); group += at_once) {
            if (between) between();
            const Index count = std::min(at_once, groups() - group);
            freqkv::for_each_catching(executor, count, [&](Index task, Index) {
                run_group(data, first, group + task, workers_[static_cast<std::size_t>(task)]);
            });
            executor.for_each(parts(), [&](Index part, Index) { add(part, count); });
        }
        return mean_loss();
    }

    /// Of the latest batch.
    std::span<const float> gradient() const { return {sum_.data(), static_cast<std::size_t>(sum_.size())}; }
    Index tokens() const { return tokens_; }

    /// Euclidean length of the gradient.
    double norm() const;

    /// Mean loss of texts [0, count) of the data, without gradients.
    template <freqkv::Executor E>
    double evaluate(const TrainingData& data, Index count, const E& executor) {
        std::vector<double> losses(static_cast<std::size_t>(count));
        freqkv::for_each_catching(executor, static_cast<Index>(workers_.size()),
                                  [&](Index task, Index) { evaluate_some(data, task, losses); });
        return mean_of(data, losses);
    }

private:
    struct Worker {
        std::unique_ptr<TrainingPass> pass;
        freqkv::AlignedBuffer<float> gradient;
    };

    Index groups() const { return (batch_ + group_ - 1) / group_; }
    Index parts() const;  // of the sum, which threads share

    void start(const TrainingData& data, Index first);
    void run_group(const TrainingData& data, Index first, Index group, Worker& worker);
    // Adds a part of the first `count` workers' gradients to the sum, in order.
    void add(Index part, Index count);
    double mean_loss() const;

    // The losses of every so manieth text, from text `worker` on.
    void evaluate_some(const TrainingData& data, Index worker, std::vector<double>& losses);
    static double mean_of(const TrainingData& data, const std::vector<double>& losses);

    Index batch_;
    Index group_;  // texts whose gradients are added up in one place
    freqkv::AlignedBuffer<float> sum_;
    std::vector<double> losses_;  // of the texts of the latest batch
    std::vector<Worker> workers_;
    Index targets_ = 0;
    Index tokens_ = 0;
};

}  // namespace llama
