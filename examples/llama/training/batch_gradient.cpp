// SPDX-License-Identifier: MIT
#include "llama/training/batch_gradient.hpp"

#include <cmath>

#include <Eigen/Core>

#include "llama/training/training_pass.hpp"

namespace llama {

namespace {

// Short texts share a gradient, so that clearing and adding it does not cost more than the texts.
constexpr Index tokens_at_once = 1024;
constexpr Index elements_at_once = 4096;
constexpr Index part_size = Index{1} << 16;

}  // namespace

BatchGradient::BatchGradient(Index count, Index batch, Index length, Index threads,
                             const std::function<std::unique_ptr<TrainingPass>()>& make_pass)
    : batch_(batch),
      group_(std::clamp<Index>(tokens_at_once / length, 1, std::max<Index>(1, batch / 8))),
      sum_(count),
      losses_(static_cast<std::size_t>(batch)) {
    for (Index i = 0; i < std::min(threads, groups()); ++i) {
        workers_.push_back({make_pass(), freqkv::AlignedBuffer<float>(count)});
    }
}

BatchGradient::~BatchGradient() = default;

Index BatchGradient::parts() const { return (sum_.size() + part_size - 1) / part_size; }

void BatchGradient::start(const TrainingData& data, Index first) {
    targets_ = tokens_ = 0;
    for (Index i = 0; i < batch_; ++i) {
        const Example example = data.example(first + i);
        targets_ += example.targets();
        tokens_ += static_cast<Index>(example.tokens.size()) - 1;
    }
    std::fill_n(sum_.data(), sum_.size(), 0.0f);
}

void BatchGradient::run_group(const TrainingData& data, Index first, Index group, Worker& worker) {
    const std::span<float> gradient(worker.gradient.data(), static_cast<std::size_t>(worker.gradient.size()));
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    const auto weight = static_cast<float>(1 / static_cast<double>(targets_));
    const Index end = std::min(batch_, (group + 1) * group_);
    for (Index i = group * group_; i < end; ++i) {
        losses_[static_cast<std::size_t>(i)] = worker.pass->run(data.example(first + i), weight, gradient);
    }
}

void BatchGradient::add(Index part, Index count) {
    const Index end = std::min(sum_.size(), (part + 1) * part_size);
    for (Index i = part * part_size; i < end; i += elements_at_once) {
        const Index size = std::min(elements_at_once, end - i);
        Eigen::Map<Eigen::ArrayXf> sum(sum_.data() + i, size);
        for (Index w = 0; w < count; ++w) {
            sum += Eigen::Map<const Eigen::ArrayXf>(workers_[static_cast<std::size_t>(w)].gradient.data() + i, size);
        }
    }
}

double BatchGradient::mean_loss() const {
    double loss = 0;
    for (const double sum : losses_) loss += sum;
    return loss / static_cast<double>(targets_);
}

double BatchGradient::norm() const {
    double squares = 0;
    for (Index i = 0; i < sum_.size(); i += elements_at_once) {
        const Index count = std::min(elements_at_once, sum_.size() - i);
        squares += static_cast<double>(Eigen::Map<const Eigen::ArrayXf>(sum_.data() + i, count).square().sum());
    }
    return std::sqrt(squares);
}

void BatchGradient::evaluate_some(const TrainingData& data, Index worker, std::vector<double>& losses) {
    TrainingPass& pass = *workers_[static_cast<std::size_t>(worker)].pass;
    for (std::size_t i = static_cast<std::size_t>(worker); i < losses.size(); i += workers_.size()) {
        losses[i] = pass.loss(data.example(static_cast<Index>(i)));
    }
}

double BatchGradient::mean_of(const TrainingData& data, const std::vector<double>& losses) {
    double loss = 0;
    Index targets = 0;
    for (std::size_t i = 0; i < losses.size(); ++i) {
        loss += losses[i];
        targets += data.example(static_cast<Index>(i)).targets();
    }
    return loss / static_cast<double>(targets);
}

}  // namespace llama
