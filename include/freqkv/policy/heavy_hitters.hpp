// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv {

/// The attention that an entry has been given by all queries since it came, summed over the group: H2O's score.
struct AccumulatedAttention {
    static constexpr bool attention_mass = true;

    double decay = 1;  ///< in (0, 1]: what was given n tokens ago counts decay^n

    double attention_decay() const { return decay; }

    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* /*scratch*/) const {
        for (Index i = 0; i < span.size(); ++i) scores[i] = span.attention_mass(i);
    }
};

/// H2O (arXiv 2306.14048), many entries at once: those stay that have been looked at most. Costs a sum for each entry,
/// 4 bytes (8 for double); see ChunkedAttention for its cost in time. truncate() takes nothing back under it.
struct HeavyHitters {
    WholeSpan schedule;
    SelectHighest<AccumulatedAttention> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit HeavyHitters(double ratio = 0.5, double decay = 1) : schedule{ratio}, codec{{decay}} {}
};

}  // namespace freqkv
