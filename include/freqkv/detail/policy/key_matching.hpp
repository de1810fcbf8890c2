// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lane_product.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What MergeSimilar computes, with its members.
template <class T>
struct KeyMatching {
    using C = Arithmetic<T>;

    static Index scratch_bytes(const SpanReader<T>& span) {
        const Index n = span.size(), dim = span.key_dim(), most = (n + 1) / 2;
        const Index width = whole_lanes<C>(n / 2);
        return WorkspaceCursor::size<C>(checked_product("keys of a span", n, dim)) +
               WorkspaceCursor::size<C>(dim * width) + WorkspaceCursor::size<C>(block * width) +
               WorkspaceCursor::size<C>(dim) + WorkspaceCursor::size<C>(most) + 3 * WorkspaceCursor::size<Index>(most);
    }

    static void match(const SpanReader<T>& span, Index keep, Index reach, Index* into, std::byte* scratch) {
        const Index n = span.size(), dim = span.key_dim(), most = (n + 1) / 2;
        WorkspaceCursor cursor(scratch);
        C* const keys = cursor.take<C>(n * dim);  // of length 1
        C* const staying = cursor.take<C>(dim * whole_lanes<C>(n / 2));
        C* const products = cursor.take<C>(block * whole_lanes<C>(n / 2));
        C* const angles = cursor.take<C>(dim);
        C* const likeness = cursor.take<C>(most);
        auto* const partners = cursor.take<Index>(most);
        auto* const merged = cursor.take<Index>(most);
        auto* const order = cursor.take<Index>(most);

        for (Index i = 0; i < n; ++i) {
            into[i] = i;
            load_direction(span, i, keys + i * dim, angles);
        }
        // What is left are the entries at step - 1, 2 step - 1, …; every second of them may go.
        for (Index step = 1, left = n; left > keep; step *= 2) {
            const auto place = [&](Index e) { return (e + 1) * step - 1; };
            const Index stay = left / 2, may_go = left - stay, go = std::min(may_go, left - keep);
            find_partners({keys + place(0) * dim, 2 * step * dim, 1}, {keys + place(1) * dim, 2 * step * dim, 1},
                          may_go, stay, dim, std::min(reach, may_go), staying, products, likeness, partners);
            choose_highest(likeness, may_go, go, merged, order);
            for (Index g = 0; g < go; ++g) into[place(2 * merged[g])] = place(2 * partners[merged[g]] + 1);
            left -= go;
        }
        for (Index i = 0; i < n; ++i) {
            while (into[into[i]] != into[i]) into[i] = into[into[i]];
        }
    }

private:
    static constexpr Index block = 64;

    static void load_direction(const SpanReader<T>& span, Index i, C* key, C* angles) {
        span.load_key(i, key, angles);
        C squares = 0;
        for (Index d = 0; d < span.key_dim(); ++d) squares += key[d] * key[d];
        const C scale = 1 / std::max(std::sqrt(squares), static_cast<C>(1e-12));
        for (Index d = 0; d < span.key_dim(); ++d) key[d] *= scale;
    }

    // Of the `may_go` rows of `going`, the most similar one of the `stay` rows of `staying`, and how similar it is. Row
    // g of the first lies between rows g - 1 and g of the others. A lane is one of these, of which `transposed` and
    // `products` are scratch.
    static void find_partners(LeftMatrix<C> going, LeftMatrix<C> staying, Index may_go, Index stay, Index dim,
                              Index reach, C* transposed, C* products, C* likeness, Index* partners) {
        const Index stride = whole_lanes<C>(stay);
        for (Index d = 0; d < dim; ++d) {
            C* const row = transposed + d * stride;
            for (Index s = 0; s < stay; ++s) row[s] = staying.data[s * staying.row + d];
            std::fill(row + stay, row + stride, C{0});
        }
        for (Index begin = 0; begin < may_go; begin += block) {
            const Index count = std::min(block, may_go - begin);
            const Index first = std::max<Index>(0, begin - reach) / lane_count<C> * lane_count<C>;
            const Index width = whole_lanes<C>(std::min(stay, begin + count + reach - 1) - first);
            lane_product({going.data + begin * going.row, going.row, going.column}, count, dim,
                         LaneRows<const C>{transposed + first, stride}, LaneRows<C>{products, width}, width,
                         FromZero{});
            for (Index g = begin; g < begin + count; ++g) {
                const C* const row = products + (g - begin) * width;
                C best = -std::numeric_limits<C>::infinity();
                Index partner = std::min(g, stay - 1);  // also where nothing is like it (NaN)
                for (Index away = 0; away < reach; ++away) {
                    for (const Index s : {g + away, g - 1 - away}) {
                        if (s < 0 || s >= stay || !(row[s - first] > best)) continue;
                        best = row[s - first];
                        partner = s;
                    }
                }
                likeness[g] = best;
                partners[g] = partner;
            }
        }
    }
};

}  // namespace freqkv::detail::inline FREQKV_ISA
