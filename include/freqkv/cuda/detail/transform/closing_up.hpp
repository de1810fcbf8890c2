// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/close_up.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv::cuda::detail {

/// What a compression leaves of a span.
enum class Remains {
    low_frequencies,  ///< as many entries as it keeps, made of all of them and written to where the span begins
    latest_entries,   ///< its latest entries, as they are
    chosen_entries,   ///< as many entries as it keeps, of any places; some of them may have been made of others
};

/// Entries [from, from + count) of a list, which go to [to, to + count), to <= from, when it closes up.
struct Stretch {
    Index from = 0;
    Index to = 0;
    Index count = 0;
    bool compressed = false;  ///< made of a span, and rotated already for where it goes
    Index chosen_of = -1;     ///< >= 0: the entries chosen of the span of this number, which begins at `from`

    friend bool operator==(const Stretch&, const Stretch&) = default;
};

/// All that is left of a list of `tokens` entries, in ascending order: a stretch may go where the ones before it have
/// been, and reaches none behind it.
inline std::vector<Stretch> closing_up(const SpanList& spans, Index tokens,
                                       Remains remains = Remains::low_frequencies) {
    std::vector<Stretch> stretches;
    const auto stay = [&](Index from, Index to, Index count) {
        if (!stretches.empty()) {  // one with the stretch before, where nothing is dropped in between
            Stretch& last = stretches.back();
            if (!last.compressed && last.chosen_of < 0 && last.from + last.count == from &&
                last.to + last.count == to) {
                last.count += count;
                return;
            }
        }
        stretches.push_back({from, to, count});
    };
    const auto remain = [&](Index s, Index to) {
        const Span& span = spans[s];
        if (remains == Remains::latest_entries) return stay(span.begin + span.length - span.keep, to, span.keep);
        const bool chosen = remains == Remains::chosen_entries;
        stretches.push_back({span.begin, to, span.keep, !chosen, chosen ? s : -1});
    };
    freqkv::detail::close_up(spans, tokens, stay, remain);
    return stretches;
}

}  // namespace freqkv::cuda::detail
