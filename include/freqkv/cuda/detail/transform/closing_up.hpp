// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv::cuda::detail {

/// Entries [from, from + count) of a list, which go to [to, to + count), to <= from, when it closes up.
struct Stretch {
    Index from = 0;
    Index to = 0;
    Index count = 0;
    bool compressed = false;  ///< stands for a span and is rotated for where it goes; else as it was

    friend bool operator==(const Stretch&, const Stretch&) = default;
};

/// All that is left of a list of `tokens` entries once its spans have been compressed to where they begin, in ascending
/// order: a stretch may go where the ones before it have been, and reaches none behind it. Of spans that keep 0 entries
/// nothing is left.
inline std::vector<Stretch> closing_up(const SpanList& spans, Index tokens) {
    std::vector<Stretch> stretches;
    Index from = 0;
    Index to = 0;
    const auto add = [&](Index count, bool compressed) {
        if (count > 0) stretches.push_back({from, to, count, compressed});
        to += count;
    };
    for (const Span& span : spans) {
        add(span.begin - from, false);
        from = span.begin;
        add(span.keep, true);
        from = span.begin + span.length;
    }
    add(tokens - from, false);
    return stretches;
}

}  // namespace freqkv::cuda::detail
