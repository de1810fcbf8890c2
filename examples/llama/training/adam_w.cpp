// SPDX-License-Identifier: MIT
#include "llama/training/adam_w.hpp"

#include <cmath>

#include <Eigen/Core>

namespace llama {

void AdamW::update(const TrainableTensor& tensor, float* values, const float* gradient, double factor,
                   double learning_rate, Index step) {
    using Array = Eigen::Map<Eigen::ArrayXf>;
    const auto steps = static_cast<double>(step);
    const auto size = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, steps)));
    const auto correction = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, steps)));
    const auto epsilon = static_cast<float>(options_.epsilon);
    const auto beta1 = static_cast<float>(options_.beta1);
    const auto beta2 = static_cast<float>(options_.beta2);
    const auto scale = static_cast<float>(factor);
    const auto kept = static_cast<float>(1 - (tensor.is_matrix() ? learning_rate * options_.weight_decay : 0));
    const Index end = tensor.first + tensor.size;
    // In pieces that stay in the nearest cache.
    constexpr Index piece = 1024;
    for (Index i = tensor.first; i < end; i += piece) {
        const Index count = std::min(piece, end - i);
        const Eigen::Map<const Eigen::ArrayXf> g(gradient + i, count);
        Array m(first_.data() + i, count);
        Array v(second_.data() + i, count);
        Array x(values + i, count);
        m = beta1 * m + ((1 - beta1) * scale) * g;
        v = beta2 * v + (1 - beta2) * (scale * g).square();
        x = kept * x - size * m / (v.sqrt() * correction + epsilon);
    }
}

}  // namespace llama
