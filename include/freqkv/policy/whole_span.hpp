// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/policy/schedule.hpp"

namespace freqkv {

/// The paper's schedule: everything between the sinks and the recent part, at one ratio;
/// keep = floor(ratio * length) in double.
struct WholeSpan {
    double ratio = 0.5;  ///< in (0, 1)

    /// Throws Error if the ratio is outside (0, 1), or if it leaves nothing to compress in this layout.
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        require(ratio > 0 && ratio < 1, "ratio", ratio, "must be above 0 and below 1");
        const Index length = layout.entries - layout.sinks - layout.recent;
        require(length >= 2, "capacity", layout.entries, "must be at least sinks + recent + 2");
        const auto keep = static_cast<Index>(ratio * static_cast<double>(length));
        require(keep >= 1, "ratio", ratio, "keeps nothing of so short a span; raise the ratio or the capacity");
        return {Span{layout.sinks, length, keep}};
    }
};

static_assert(Schedule<WholeSpan>);

}  // namespace freqkv
