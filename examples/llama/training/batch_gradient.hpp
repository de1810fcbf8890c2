// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include <Eigen/Core>

#include "freqkv/executor.hpp"
#include "freqkv/workspace.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_data.hpp"
#include "llama/training/training_pass.hpp"

namespace llama {

/// The gradient of the mean loss of a batch of texts. Each thread takes whole texts, a few at a time, with a gradient
/// of its own; these are added in the order of the texts, so that the result does not depend on the number of
/// threads.
template <class P>
class BatchGradient {
public:
    /// `make_pass()` makes one thread's TrainingPass. `batch` texts of up to `length` targets.
    template <class MakePass>
    BatchGradient(Index count, Index batch, Index length, Index threads, MakePass&& make_pass)
        : batch_(batch),
          group_(std::clamp<Index>(tokens_at_once / length, 1, std::max<Index>(1, batch / 8))),
          sum_(count),
          losses_(static_cast<std::size_t>(batch)) {
        for (Index i = 0; i < std::min(threads, groups()); ++i) {
            workers_.push_back({make_pass(), freqkv::AlignedBuffer<float>(count)});
        }
    }

    /// Of texts [first, first + batch) of the data: returns the mean loss of the scored targets, in nats.
    template <freqkv::Executor E>
    double run(const TrainingData& data, Index first, const E& executor) {
        targets_ = tokens_ = 0;
        for (Index i = 0; i < batch_; ++i) {
            const Example example = data.example(first + i);
            targets_ += example.targets();
            tokens_ += static_cast<Index>(example.tokens.size()) - 1;
        }
        std::fill_n(sum_.data(), sum_.size(), 0.0f);
        const auto at_once = static_cast<Index>(workers_.size());
        for (Index group = 0; group < groups(); group += at_once) {
            const Index count = std::min(at_once, groups() - group);
            freqkv::for_each_catching(executor, count, [&](Index task, Index) {
                run_group(data, first, group + task, workers_[static_cast<std::size_t>(task)]);
            });
            add(count, executor);
        }
        double loss = 0;
        for (const double sum : losses_) loss += sum;
        return loss / static_cast<double>(targets_);
    }

    /// Of the latest batch.
    std::span<const float> gradient() const { return {sum_.data(), static_cast<std::size_t>(sum_.size())}; }
    Index tokens() const { return tokens_; }

    /// Euclidean length of the gradient.
    double norm() const {
        double squares = 0;
        for (Index i = 0; i < sum_.size(); i += piece) {
            const Index count = std::min(piece, sum_.size() - i);
            squares += static_cast<double>(Eigen::Map<const Eigen::ArrayXf>(sum_.data() + i, count).square().sum());
        }
        return std::sqrt(squares);
    }

    /// Mean loss of texts [0, count) of the data, without gradients.
    template <freqkv::Executor E>
    double evaluate(const TrainingData& data, Index count, const E& executor) {
        std::vector<double> losses(static_cast<std::size_t>(count));
        const auto at_once = static_cast<Index>(workers_.size());
        freqkv::for_each_catching(executor, at_once, [&](Index task, Index) {
            TrainingPass<P>& pass = *workers_[static_cast<std::size_t>(task)].pass;
            for (Index i = task; i < count; i += at_once)
                losses[static_cast<std::size_t>(i)] = pass.loss(data.example(i));
        });
        double loss = 0;
        Index targets = 0;
        for (Index i = 0; i < count; ++i) {
            loss += losses[static_cast<std::size_t>(i)];
            targets += data.example(i).targets();
        }
        return loss / static_cast<double>(targets);
    }

private:
    struct Worker {
        std::unique_ptr<TrainingPass<P>> pass;
        freqkv::AlignedBuffer<float> gradient;
    };

    // Short texts share a gradient, so that clearing and adding it does not cost more than the texts.
    static constexpr Index tokens_at_once = 1024;
    static constexpr Index piece = 4096;

    Index groups() const { return (batch_ + group_ - 1) / group_; }

    void run_group(const TrainingData& data, Index first, Index group, Worker& worker) {
        const std::span<float> gradient(worker.gradient.data(), static_cast<std::size_t>(worker.gradient.size()));
        std::fill(gradient.begin(), gradient.end(), 0.0f);
        const auto weight = static_cast<float>(1 / static_cast<double>(targets_));
        const Index end = std::min(batch_, (group + 1) * group_);
        for (Index i = group * group_; i < end; ++i) {
            losses_[static_cast<std::size_t>(i)] = worker.pass->run(data.example(first + i), weight, gradient);
        }
    }

    // Adds the first `count` workers' gradients to the sum, in order.
    template <freqkv::Executor E>
    void add(Index count, const E& executor) {
        constexpr Index task_size = Index{1} << 16;
        executor.for_each((sum_.size() + task_size - 1) / task_size, [&](Index task, Index) {
            const Index end = std::min(sum_.size(), (task + 1) * task_size);
            for (Index i = task * task_size; i < end; i += piece) {
                const Index size = std::min(piece, end - i);
                Eigen::Map<Eigen::ArrayXf> sum(sum_.data() + i, size);
                for (Index w = 0; w < count; ++w) {
                    sum += Eigen::Map<const Eigen::ArrayXf>(workers_[static_cast<std::size_t>(w)].gradient.data() + i,
                                                            size);
                }
            }
        });
    }

    Index batch_;
    Index group_;  // texts whose gradients are added up in one place
    freqkv::AlignedBuffer<float> sum_;
    std::vector<double> losses_;  // of the texts of the latest batch
    std::vector<Worker> workers_;
    Index targets_ = 0;
    Index tokens_ = 0;
};

}  // namespace llama
