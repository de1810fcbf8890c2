// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv {

/// A schedule against forgetting: all that is compressed has the same resolution, however old it is. Behind a
/// compression there are m = floor(ratio * length) entries between sinks and recent part, and each stands for as many
/// tokens as the next. So a compression takes the m entries that stood for everything before and the length - m that
/// came since as a span each, and gives both a part of m by the number of their tokens. The equal weight is that of
/// FAEDKV's running spectrum (arXiv 2507.20030); here what has been kept is sampled anew.
///
/// How much is left of each span differs from compression to compression, so that there are some 2 sqrt(m) pairs of
/// lengths, for each of which a plan is made.
struct EqualWeight {
    double ratio = 0.5;  ///< in (0, 1), of what lies between sinks and recent part

    /// O(1). Throws Error for another ratio, and unless m >= 2 and length - m >= 2.
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        require(ratio > 0 && ratio < 1, "ratio", ratio, "must be within 0 and 1, both excluded");
        const Index length = layout.entries - layout.sinks - layout.recent;
        const Index kept = static_cast<Index>(ratio * static_cast<double>(length));
        const Index came = length - kept;
        require(kept >= 2 && came >= 2, "capacity", layout.entries,
                "must leave at least 2 entries kept and 2 dropped between sinks and recent part");
        if (compressions == 0) return {{layout.sinks, length, kept}};
        const double tokens =
            static_cast<double>(length) + static_cast<double>(compressions) * static_cast<double>(came);
        const auto share =
            static_cast<Index>(std::llround(static_cast<double>(kept) * static_cast<double>(came) / tokens));
        const Index new_entries = std::clamp<Index>(share, 1, std::min(came, kept) - 1);
        return {{layout.sinks, kept, kept - new_entries}, {layout.sinks + kept, came, new_entries}};
    }
};

static_assert(Schedule<EqualWeight>);

/// The low-pass at the same resolution for all of the past.
template <class Backend = dct::Simd>
struct EqualWeightLowPass {
    EqualWeight schedule;
    FrequencyCodec<Backend> codec;

    /// `ratio` in (0, 1) is the part of a full cache between sinks and recent part that is left by a compression.
    explicit EqualWeightLowPass(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv
