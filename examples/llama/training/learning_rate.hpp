// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "freqkv/config.hpp"

namespace llama {

using freqkv::Index;

/// Rises linearly over the first `warmup` steps, then stays, or falls along half a cosine to `last` of the peak.
struct LearningRate {
    double peak = 0;
    Index warmup = 0;
    Index steps = 0;      ///< of the whole training
    bool cosine = false;  ///< else constant
    double last = 0.1;

    /// Of step `step`, from 1. The first step has peak / warmup, step `warmup` the peak.
    double at(Index step) const {
        if (step < warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
        if (!cosine) return peak;
        const auto falling = static_cast<double>(std::max<Index>(1, steps - warmup));
        const double part = std::min(1.0, static_cast<double>(step - warmup) / falling);
        return peak * (last + (1 - last) * 0.5 * (1 + std::cos(std::numbers::pi * part)));
    }
};

}  // namespace llama
