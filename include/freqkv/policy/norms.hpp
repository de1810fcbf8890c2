// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

template <class C>
C squared_length(const C* x, Index count) {
    C squares = 0;
    for (Index d = 0; d < count; ++d) squares += x[d] * x[d];
    return squares;
}

}  // namespace freqkv::detail::inline FREQKV_ISA

namespace freqkv {

/// Minus the squared length of the key: short keys are those that attention looks at (arXiv 2406.11430).
struct ShortKeys {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span) const {
        return span.key_dim() * static_cast<Index>(sizeof(Arithmetic<T>));
    }

    /// O(span size * key_dim).
    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* scratch) const {
        auto* const key = reinterpret_cast<Arithmetic<T>*>(scratch);
        for (Index i = 0; i < span.size(); ++i) {
            span.load_stored_key(i, key);
            scores[i] = -detail::squared_length(key, span.key_dim());
        }
    }
};

/// The squared length of the value: what an entry can add to a result at most.
struct LongValues {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span) const {
        return span.value_dim() * static_cast<Index>(sizeof(Arithmetic<T>));
    }

    /// O(span size * value_dim).
    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* scratch) const {
        auto* const value = reinterpret_cast<Arithmetic<T>*>(scratch);
        for (Index i = 0; i < span.size(); ++i) {
            span.load_value(i, value);
            scores[i] = detail::squared_length(value, span.value_dim());
        }
    }
};

/// The entries with the shortest keys stay (the L2 norm of Devoto et al.).
struct KeyNorm {
    WholeSpan schedule;
    SelectHighest<ShortKeys> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit KeyNorm(double ratio = 0.5) : schedule{ratio} {}
};

/// The entries with the longest values stay.
struct ValueNorm {
    WholeSpan schedule;
    SelectHighest<LongValues> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit ValueNorm(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv
