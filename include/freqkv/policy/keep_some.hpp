// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/codec_needs.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

/// Of what a span keeps, a share are the entries that score highest, exactly as they are; the others of the span are
/// transformed to the rest, in order of place. A HybridCodec; no gradients go through it.
template <class Score, class Transform = FrequencyCodec<>>
struct KeepSome {
    static constexpr Index query_window = freqkv::query_window<Score>();
    static constexpr bool attention_mass = reads_attention_mass<Score>();

    double share = 0.5;  ///< in [0, 1)
    SelectHighest<Score> selection{};
    Transform transform{};

    double attention_decay() const
        requires requires(const Score& s) { s.attention_decay(); }
    {
        return selection.attention_decay();
    }

    /// floor(share * keep) in double, and never all.
    Index exact(Index /*length*/, Index keep) const {
        require(share >= 0 && share < 1, "share", share, "must be at least 0 and below 1");
        return std::min(static_cast<Index>(share * static_cast<double>(keep)), keep - 1);
    }

    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index keep) const {
        return selection.scratch_bytes(span, keep);
    }

    template <class T>
        requires EntryScore<Score, T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        return selection.select(span, keep, chosen, scratch);
    }

    template <class T, class Plan>
        requires TransformScore<Score, T, Plan>
    Index select(const SpanReader<T>& span, const Plan& plan, Index keep, Index* chosen, std::byte* scratch) const {
        return selection.select(span, plan, keep, chosen, scratch);
    }

    template <class C>
    auto plan(Index length, Index keep) const {
        return transform.template plan<C>(length, keep);
    }
};

/// The low-pass with a share of exact entries, by any score.
template <class Score>
struct ExactAndLowPass {
    WholeSpan schedule;
    KeepSome<Score> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression, `share` in [0, 1) the part of it that
    /// is kept exactly.
    explicit ExactAndLowPass(double ratio = 0.5, double share = 0.5, Score score = {})
        : schedule{ratio}, codec{share, {score}} {}
};

}  // namespace freqkv
