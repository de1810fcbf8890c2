// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/entry_scores.hpp"
#include "freqkv/cuda/detail/cache/window_score.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/policy/select_highest.hpp"

// What a device can compress under. No kernel sees a policy: it becomes spans, what remains of them, and a score.
namespace freqkv::cuda::detail {

template <class P>
using CodecOf = std::remove_cvref_t<decltype(P::codec)>;

/// A policy of the host's with a schedule and this codec, and no allocation.
template <class P, class Codec>
concept PolicyWithCodec = std::copyable<P> && !requires(const P& policy) { policy.allocation; } && requires {
    requires Schedule<std::remove_cvref_t<decltype(P::schedule)>>;
    requires std::same_as<CodecOf<P>, Codec>;
};

/// A policy that keeps the low frequencies of a span, as LowPass<>.
template <class P>
concept LowPassPolicy = PolicyWithCodec<P, FrequencyCodec<>>;

/// A policy that forgets all but the latest entries of a span, as LocalWindow.
template <class P>
concept LatestPolicy = PolicyWithCodec<P, SelectLatest>;

/// A score of the host's that a device computes, too.
template <class Score>
concept ScoreOfDevice = requires(const Score& score) { device_score(score); };

/// The latest queries that a policy reads.
template <class P>
constexpr Index query_window_of() {
    if constexpr (!GrowingPolicy<P>) return query_window<CodecOf<P>>();
    return 0;
}

// The score that a codec goes by, or void.
template <class Codec>
struct ScoreOf {
    using type = void;
};
template <class Score>
struct ScoreOf<SelectHighest<Score>> {
    using type = Score;
};
template <class Score>
struct ScoreOf<KeepSome<Score, FrequencyCodec<>>> {
    using type = Score;
};

template <class Score>
const Score& score_of(const SelectHighest<Score>& codec) {
    return codec.score;
}
template <class Score>
const Score& score_of(const KeepSome<Score, FrequencyCodec<>>& codec) {
    return codec.selection.score;
}

/// A policy that keeps the entries of a span which score highest, as KeyDiff.
template <class P>
concept HighestPolicy = requires {
    typename CodecOf<P>;
    requires PolicyWithCodec<P, SelectHighest<typename ScoreOf<CodecOf<P>>::type>>;
    requires ScoreOfDevice<typename ScoreOf<CodecOf<P>>::type>;
};

/// A policy that keeps these and the low frequencies of the others, as ExactAndLowPass.
template <class P>
concept HybridPolicy = requires {
    typename CodecOf<P>;
    requires PolicyWithCodec<P, KeepSome<typename ScoreOf<CodecOf<P>>::type, FrequencyCodec<>>>;
    requires ScoreOfDevice<typename ScoreOf<CodecOf<P>>::type>;
};

template <class P>
concept CompressingPolicy = LowPassPolicy<P> || LatestPolicy<P> || HighestPolicy<P> || HybridPolicy<P>;

/// Entries of a span that a policy keeps as they are, those that score highest; the others are transformed to the rest
/// of what it keeps. Throws Error if the codec refuses.
template <CompressingPolicy P>
Index exact_entries(const P& policy, const Span& span) {
    if constexpr (HybridPolicy<P>) return policy.codec.exact(span.length, span.keep);
    return LowPassPolicy<P> ? 0 : span.keep;
}

template <class Codec>
inline constexpr bool names_backend = false;
template <class Backend>
inline constexpr bool names_backend<FrequencyCodec<Backend>> =
    !std::is_same_v<FrequencyCodec<Backend>, FrequencyCodec<>>;
template <class Score, class Transform>
inline constexpr bool names_backend<KeepSome<Score, Transform>> = names_backend<Transform>;

// Instantiated where a policy is given, so that the compiler's message is a sentence.
template <class P>
consteval bool check_compressing_policy() {
    if constexpr (requires { P::codec; }) {
        using Score = typename ScoreOf<CodecOf<P>>::type;
        static_assert(!names_backend<CodecOf<P>>,
                      "freqkv: a device has transforms of its own: give it LowPass<> or FrequencyCodec<>, without a "
                      "backend of the host's");
        static_assert(!reads_attention_mass<CodecOf<P>>(),
                      "freqkv: a device does not sum the attention that entries are given: policies that read it, as "
                      "HeavyHitters, are for the host");
        static_assert(
            std::is_void_v<Score> || ScoreOfDevice<Score> || reads_attention_mass<CodecOf<P>>(),
            "freqkv: a device selects by ShortKeys, LongValues, KeyDifference or WindowAttention; other scores "
            "are for the host");
    }
    static_assert(
        CompressingPolicy<P>,
        "freqkv: a device compresses under LowPass<>, LocalWindow, or a policy with a schedule (`SpanList "
        "plan(const CacheLayout&, Index) const`) and the codec FrequencyCodec<>, SelectLatest, SelectHighest or "
        "KeepSome, without an allocation; a cache may have Full as well");
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
