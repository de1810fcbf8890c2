// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <numeric>

#include "freqkv/config.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv {

/// What a selection goes by: score() writes a score for each entry of the span to `scores` [span.size()]; the highest
/// stay, and of equal ones the latest. NaN counts as the lowest. Const, called from several threads at once; may throw.
///
/// Optional members, as of a codec: `static constexpr Index query_window`, `static constexpr bool attention_mass`,
/// `double attention_decay() const` and
/// `template <class T> Index scratch_bytes(const SpanReader<T>& span) const`.
template <class S, class T>
concept EntryScore = std::copyable<S> && requires(const S& score, const SpanReader<T>& span, Arithmetic<T>* scores,
                                                  std::byte* scratch) { score.score(span, scores, scratch); };

}  // namespace freqkv

namespace freqkv::detail::inline FREQKV_ISA {

template <class Score, class T>
Index score_scratch_bytes(const Score& score, const SpanReader<T>& span) {
    if constexpr (requires { score.scratch_bytes(span); }) {
        return score.scratch_bytes(span);
    } else {
        return 0;
    }
}

// The indices of the `keep` highest of `count` scores to `chosen`, ascending; `order` [count] is scratch. Which these
// are depends on the scores alone.
template <class C>
void choose_highest(C* scores, Index count, Index keep, Index* chosen, Index* order) {
    for (Index i = 0; i < count; ++i) {
        if (!(scores[i] == scores[i])) scores[i] = -std::numeric_limits<C>::infinity();
    }
    std::iota(order, order + count, Index{0});
    if (keep < count) {
        std::nth_element(order, order + keep, order + count,
                         [&](Index a, Index b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; });
    }
    std::sort(order, order + keep);
    std::copy_n(order, keep, chosen);
}

}  // namespace freqkv::detail::inline FREQKV_ISA

namespace freqkv {

/// A score that looks at what a transform makes of the span, for KeepSome: `plan` maps it to as many rows as those
/// entries get that are not kept exactly. Behind what scratch_bytes() asks for, on a cache line, is the plan's scratch.
template <class S, class T, class Plan>
concept TransformScore =
    std::copyable<S> && requires(const S& score, const SpanReader<T>& span, const Plan& plan, Arithmetic<T>* scores,
                                 std::byte* scratch) { score.score(span, plan, scores, scratch); };

/// Keeps the entries of a span that score highest. Cost: the score's, and linear time on average for the ranks.
template <class Score>
struct SelectHighest {
    static constexpr Index query_window = freqkv::query_window<Score>();
    static constexpr bool attention_mass = reads_attention_mass<Score>();

    Score score;

    double attention_decay() const
        requires requires(const Score& s) { s.attention_decay(); }
    {
        return score.attention_decay();
    }

    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index /*keep*/) const {
        return WorkspaceCursor::size<Arithmetic<T>>(span.size()) + WorkspaceCursor::size<Index>(span.size()) +
               detail::score_scratch_bytes(score, span);
    }

    template <class T>
        requires EntryScore<Score, T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        return select_by(span, keep, chosen, scratch,
                         [&](Arithmetic<T>* scores, std::byte* rest) { score.score(span, scores, rest); });
    }

    /// In a hybrid; see HybridCodec.
    template <class T, class Plan>
        requires TransformScore<Score, T, Plan>
    Index select(const SpanReader<T>& span, const Plan& plan, Index keep, Index* chosen, std::byte* scratch) const {
        return select_by(span, keep, chosen, scratch,
                         [&](Arithmetic<T>* scores, std::byte* rest) { score.score(span, plan, scores, rest); });
    }

private:
    template <class T, class F>
    static Index select_by(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch, const F& write) {
        WorkspaceCursor cursor(scratch);
        auto* const scores = cursor.take<Arithmetic<T>>(span.size());
        auto* const order = cursor.take<Index>(span.size());
        write(scores, cursor.take<std::byte>(0));
        detail::choose_highest(scores, span.size(), keep, chosen, order);
        return keep;
    }
};

}  // namespace freqkv
