// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv {

/// How little a key points where the keys of its head point on the average: minus the cosine between it and the mean of
/// all keys of the list, each scaled to length 1, as they are stored (KeyDiff, arXiv 2504.15364). Reads no queries.
struct KeyDifference {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span) const {
        return 2 * WorkspaceCursor::size<Arithmetic<T>>(span.key_dim());
    }

    /// O(list size * key_dim).
    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* scratch) const {
        using C = Arithmetic<T>;
        const Index dim = span.key_dim();
        WorkspaceCursor cursor(scratch);
        C* const mean = cursor.take<C>(dim);
        C* const key = cursor.take<C>(dim);
        const auto length = [&](const C* x) {
            C squares = 0;
            for (Index d = 0; d < dim; ++d) squares += x[d] * x[d];
            return std::max(std::sqrt(squares), static_cast<C>(1e-12));
        };
        const SpanReader<T> list = span.list();
        std::fill_n(mean, dim, C{0});
        for (Index i = 0; i < list.size(); ++i) {
            list.load_stored_key(i, key);
            const C share = 1 / length(key);
            for (Index d = 0; d < dim; ++d) mean[d] += key[d] * share;
        }
        const C mean_length = length(mean);
        for (Index i = 0; i < span.size(); ++i) {
            span.load_stored_key(i, key);
            C product = 0;
            for (Index d = 0; d < dim; ++d) product += key[d] * mean[d];
            scores[i] = -product / (length(key) * mean_length);
        }
    }
};

/// KeyDiff: the keys that are least like the others stay.
struct KeyDiff {
    WholeSpan schedule;
    SelectHighest<KeyDifference> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit KeyDiff(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv
