// SPDX-License-Identifier: MIT
#include "llama/model/rope_scaling.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

namespace llama {

namespace {

// The part of a frequency that is divided by the factor, 0 to 1; the rest of it is kept.
class DividedPart {
public:
    explicit DividedPart(const Config& config)
        : scaling_(config.rope_scaling), base_(config.rope_base), dims_(static_cast<double>(config.head_dim)) {}

    double of_pair(Index pair) const {
        switch (scaling_.type) {
            case RopeScaling::Type::linear:
                return 1;
            case RopeScaling::Type::yarn:
                return yarn(static_cast<double>(pair));
            case RopeScaling::Type::llama3:
                return llama3(static_cast<double>(pair));
            case RopeScaling::Type::none:
            case RopeScaling::Type::dynamic:
                return 0;
        }
        return 0;
    }

private:
    double window() const { return static_cast<double>(scaling_.original_context); }

    // A ramp from the pair that turns beta_fast times within the window to the one that turns beta_slow times.
    double yarn(double pair) const {
        const auto pair_of_turns = [&](double turns) {
            return dims_ * std::log(window() / (turns * 2 * std::numbers::pi)) / (2 * std::log(base_));
        };
        double first = pair_of_turns(scaling_.beta_fast);
        double last = pair_of_turns(scaling_.beta_slow);
        if (scaling_.truncate) {
            first = std::floor(first);
            last = std::ceil(last);
        }
        first = std::max(first, 0.0);
        last = std::min(last, dims_ - 1);
        if (first == last) last += 1e-3;  // a step
        return std::clamp((pair - first) / (last - first), 0.0, 1.0);
    }

    double llama3(double pair) const {
        const double turns = window() * std::pow(base_, -2 * pair / dims_) / (2 * std::numbers::pi);
        if (turns < scaling_.low_frequency_factor) return 1;
        if (turns > scaling_.high_frequency_factor) return 0;
        return (scaling_.high_frequency_factor - turns) /
               (scaling_.high_frequency_factor - scaling_.low_frequency_factor);
    }

    const RopeScaling& scaling_;
    double base_;
    double dims_;
};

}  // namespace

freqkv::RopeOptions rope_options(const Config& config) {
    freqkv::RopeOptions options;
    options.head_dim = config.head_dim;
    options.base = config.rope_base;
    options.pairing = config.rope_pairing;
    const RopeScaling& scaling = config.rope_scaling;
    const DividedPart divided(config);
    options.frequency_factors.reserve(static_cast<std::size_t>(config.head_dim / 2));
    for (Index pair = 0; pair < config.head_dim / 2; ++pair) {
        const double part = divided.of_pair(pair);
        const double listed = scaling.divisors.empty() ? 1 : scaling.divisors[static_cast<std::size_t>(pair)];
        options.frequency_factors.push_back(listed / (part / scaling.factor + 1 - part));
    }
    return options;
}

double score_scale(const Config& config) {
    const RopeScaling& scaling = config.rope_scaling;
    double magnitude = 1;
    if (scaling.type == RopeScaling::Type::yarn) {
        magnitude = scaling.attention_factor >= 0 ? scaling.attention_factor
                    : scaling.factor > 1          ? 0.1 * std::log(scaling.factor) + 1
                                                  : 1;
    }
    return magnitude * magnitude / std::sqrt(static_cast<double>(config.head_dim));
}

}  // namespace llama
