// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/schedule.hpp"

// What a device can compress under. No kernel sees a policy: it becomes spans here.
namespace freqkv::cuda::detail {

/// A policy of the host's that forgets all but the latest entries of a span, as LocalWindow.
template <class P>
concept LatestPolicy = std::copyable<P> && !requires(const P& policy) { policy.allocation; } && requires {
    requires Schedule<std::remove_cvref_t<decltype(P::schedule)>>;
    requires std::same_as<std::remove_cvref_t<decltype(P::codec)>, SelectLatest>;
};

/// A Schedule, of whose spans the low frequencies are kept, or a LatestPolicy.
template <class P>
concept CompressingPolicy = Schedule<P> || LatestPolicy<P>;

/// What becomes of a list: its spans are compressed to the low frequencies, and those that keep 0 entries are dropped.
/// Throws Error if the schedule refuses the layout or breaks its promises.
template <CompressingPolicy P>
SpanList spans_under(const P& policy, const CacheLayout& layout, Index compressions) {
    if constexpr (Schedule<P>) {
        const SpanList spans = policy.plan(layout, compressions);
        check_spans(spans, layout);
        return spans;
    } else {
        SpanList spans = spans_under(policy.schedule, layout, compressions);
        for (Span& span : spans) span = {span.begin, span.length - span.keep, 0};
        return spans;
    }
}

}  // namespace freqkv::cuda::detail
