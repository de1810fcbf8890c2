// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"

// What a device can compress under. No kernel sees a policy: it becomes spans, and what remains of them.
namespace freqkv::cuda::detail {

/// A policy of the host's with a schedule and this codec, and no allocation.
template <class P, class Codec>
concept PolicyWithCodec = std::copyable<P> && !requires(const P& policy) { policy.allocation; } && requires {
    requires Schedule<std::remove_cvref_t<decltype(P::schedule)>>;
    requires std::same_as<std::remove_cvref_t<decltype(P::codec)>, Codec>;
};

/// A policy that keeps the low frequencies of a span, as LowPass<>.
template <class P>
concept LowPassPolicy = PolicyWithCodec<P, FrequencyCodec<>>;

/// A policy that forgets all but the latest entries of a span, as LocalWindow.
template <class P>
concept LatestPolicy = PolicyWithCodec<P, SelectLatest>;

template <class P>
concept CompressingPolicy = LowPassPolicy<P> || LatestPolicy<P>;

template <class Codec>
inline constexpr bool names_backend = false;
template <class Backend>
inline constexpr bool names_backend<FrequencyCodec<Backend>> =
    !std::is_same_v<FrequencyCodec<Backend>, FrequencyCodec<>>;

// Instantiated where a policy is given, so that the compiler's message is a sentence.
template <class P>
consteval bool check_compressing_policy() {
    if constexpr (requires { P::codec; }) {
        static_assert(!names_backend<std::remove_cvref_t<decltype(P::codec)>>,
                      "freqkv: a device has transforms of its own: give it LowPass<> or FrequencyCodec<>, without a "
                      "backend of the host's");
    }
    static_assert(CompressingPolicy<P>,
                  "freqkv: a device compresses under LowPass<>, LocalWindow, or a policy with a schedule (`SpanList "
                  "plan(const CacheLayout&, Index) const`) and the codec FrequencyCodec<> or SelectLatest, without an "
                  "allocation; a cache may have Full as well");
    return true;
}
template <class P>
consteval bool check_cache_policy() {
    if constexpr (!GrowingPolicy<P>) check_compressing_policy<P>();
    return true;
}

/// The spans of a list that are compressed now. Throws Error if the schedule refuses the layout or breaks its promises.
template <CompressingPolicy P>
SpanList spans_under(const P& policy, const CacheLayout& layout, Index compressions) {
    const SpanList spans = policy.schedule.plan(layout, compressions);
    check_spans(spans, layout);
    return spans;
}

}  // namespace freqkv::cuda::detail
