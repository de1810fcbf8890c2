// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv::detail {

/// Walks a list of `entries` entries as a compression leaves it: what lies between the spans stays as it is, of each
/// span `keep` entries remain, and all of them close up. Calls, with ascending `to`,
///
///   stay(from, to, count)     entries [from, from + count) go to [to, to + count); count >= 1 and to <= from
///   remain(span, to)          what remains of the span, of which the argument is the index, goes to [to, to + keep)
///
/// Entries may be moved as they are met: no call writes behind what it or a later one still reads.
template <class Stay, class Remain>
constexpr void close_up(std::span<const Span> spans, Index entries, Stay&& stay, Remain&& remain) {
    Index from = 0;
    Index to = 0;
    const auto stay_until = [&](Index end) {
        if (from < end) stay(from, to, end - from);
        to += end - from;
        from = end;
    };
    for (Index s = 0; s < static_cast<Index>(spans.size()); ++s) {
        const Span& span = spans[static_cast<std::size_t>(s)];
        stay_until(span.begin);
        remain(s, to);
        to += span.keep;
        from = span.begin + span.length;
    }
    stay_until(entries);
}

}  // namespace freqkv::detail
