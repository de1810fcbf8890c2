// SPDX-License-Identifier: MIT
#include "llama/model/loss.hpp"

#include <algorithm>
#include <cmath>

#include <Eigen/Core>

namespace llama {

double negative_log_likelihood(std::span<const float> logits, Token target) {
    const auto size = static_cast<Index>(logits.size());
    const Eigen::Map<const Eigen::ArrayXf> z(logits.data(), size);
    const float largest = z.maxCoeff();
    constexpr Index block = 256;
    double sum = 0;
    for (Index i = 0; i < size; i += block) {
        sum += static_cast<double>((z.segment(i, std::min(block, size - i)) - largest).exp().sum());
    }
    const auto difference = static_cast<double>(largest) - static_cast<double>(z[target]);
    return std::log(sum) + difference;
}

}  // namespace llama
