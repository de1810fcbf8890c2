// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

/// The attention that an entry has been given by all queries since it came, summed over the group: H2O's score. In a
/// long text old entries have the largest sums and never leave; a mean and a decay give the others a chance.
struct AccumulatedAttention {
    static constexpr bool attention_mass = true;

    double decay = 1;  ///< in (0, 1]: what was given n tokens ago counts decay^n

    bool mean = false;  ///< for each token that came since, counted likewise, instead of in all

    double attention_decay() const { return decay; }

    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* /*scratch*/) const {
        for (Index i = 0; i < span.size(); ++i) {
            scores[i] = span.attention_mass(i);
            if (mean) scores[i] /= static_cast<Arithmetic<T>>(queries(span.tokens_seen() - span.tokens(i).begin));
        }
    }

private:
    // What `tokens` tokens count.
    double queries(Index tokens) const {
        const auto count = static_cast<double>(tokens);
        return decay < 1 ? (1 - std::pow(decay, count)) / (1 - decay) : count;
    }
};

/// H2O (arXiv 2306.14048), many entries at once: those stay that have been looked at most. Costs a sum for each entry,
/// 4 bytes (8 for double); see ChunkedAttention for its cost in time. truncate() takes nothing back under it.
struct HeavyHitters {
    WholeSpan schedule;
    SelectHighest<AccumulatedAttention> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit HeavyHitters(double ratio = 0.5, double decay = 1, bool mean = false)
        : schedule{ratio}, codec{{decay, mean}} {}
};

}  // namespace freqkv
