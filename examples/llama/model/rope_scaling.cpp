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
        : scaling_(config.rope_scaling), base_(config.rope_base), dims_(static_cast<double>(config.rotation())) {}

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
            case RopeScaling::Type::longrope:
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

bool has_own_base(const Config& config, LayerKind kind) { return kind.local && config.local_rope_base > 0; }

// By what the base grows for more positions than were trained (the "dynamic NTK" of Peng et al. 2023, as transformers
// computes it for a text of that length).
double dynamic_growth(const Config& config, Index positions) {
    if (config.rotation() == 2) return 1;  // the one frequency does not depend on the base
    const double factor = config.rope_scaling.factor;
    const double length =
        static_cast<double>(std::max(positions, config.context)) / static_cast<double>(config.context);
    const auto dims = static_cast<double>(config.rotation());
    return std::pow(factor * length - (factor - 1), dims / (dims - 2));
}

// What queries and keys are multiplied by after their rotation.
double magnitude_of(const Config& config, LayerKind kind) {
    const RopeScaling& scaling = config.rope_scaling;
    const bool scaled = scaling.type == RopeScaling::Type::yarn || scaling.type == RopeScaling::Type::longrope;
    if (!scaled || !kind.rotated || has_own_base(config, kind)) return 1;
    if (scaling.attention_factor >= 0) return scaling.attention_factor;
    return scaling.type == RopeScaling::Type::yarn && scaling.factor > 1 ? 0.1 * std::log(scaling.factor) + 1 : 1;
}

}  // namespace

freqkv::RopeOptions rope_options(const Config& config, Index positions, LayerKind kind) {
    freqkv::RopeOptions options;
    options.head_dim = config.head_dim;
    options.rotated_dims = kind.rotated ? config.rotation() : 0;
    options.base = has_own_base(config, kind) ? config.local_rope_base : config.rope_base;
    options.pairing = config.rope_pairing;
    if (!kind.rotated || has_own_base(config, kind)) return options;
    const RopeScaling& scaling = config.rope_scaling;
    if (scaling.type == RopeScaling::Type::dynamic) options.base *= dynamic_growth(config, positions);
    const bool many = scaling.type == RopeScaling::Type::longrope && positions > scaling.original_context;
    const std::vector<double>& divisors = many ? scaling.long_divisors : scaling.divisors;
    const DividedPart divided(config);
    options.frequency_factors.reserve(static_cast<std::size_t>(config.rotation() / 2));
    for (Index pair = 0; pair < config.rotation() / 2; ++pair) {
        const double part = divided.of_pair(pair);
        const double listed = divisors.empty() ? 1 : divisors[static_cast<std::size_t>(pair)];
        options.frequency_factors.push_back(listed / (part / scaling.factor + 1 - part));
    }
    return options;
}

double score_scale(const Config& config, LayerKind kind) {
    const double magnitude = config.rotation() == config.head_dim ? magnitude_of(config, kind) : 1;
    const double divisor = config.query_scalar > 0 ? config.query_scalar : static_cast<double>(config.head_dim);
    return magnitude * magnitude / std::sqrt(divisor);
}

double rotated_query_factor(const Config& config, LayerKind kind) {
    const double magnitude = config.rotation() == config.head_dim ? 1 : magnitude_of(config, kind);
    return magnitude * magnitude;
}

}  // namespace llama
