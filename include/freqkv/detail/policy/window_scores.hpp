// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lane_product.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/window_attention.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What WindowAttention computes, with its members.
template <class T>
struct WindowScores {
    using C = Arithmetic<T>;

    Index pool;
    Pooling pooling;
    double scale;
    Index latest;

    static Index scratch_bytes(const SpanReader<T>& span, Index window) {
        const Index width = whole_lanes<C>(window * std::max<Index>(1, span.queries().heads));
        return WorkspaceCursor::size<C>(checked_product("scores of a query window", span.list_size(), width)) +
               WorkspaceCursor::size<C>(span.key_dim() * width) + WorkspaceCursor::size<C>(key_block * span.key_dim()) +
               2 * WorkspaceCursor::size<C>(span.key_dim()) + WorkspaceCursor::size<C>(width) +
               WorkspaceCursor::size<C>(span.size());
    }

    void score(const SpanReader<T>& span, C* scores, std::byte* scratch) const {
        const QueryWindow<C>& queries = span.queries();
        const Index asking = std::min(latest, queries.tokens());
        const Index first = queries.tokens() - asking;
        const SpanReader<T> list = span.list();
        const Index dim = span.key_dim();
        const Index rows = asking * queries.heads;
        const Index width = whole_lanes<C>(rows);
        if (rows == 0) {  // nothing was asked: all alike
            std::fill_n(scores, span.size(), C{0});
            return;
        }
        WorkspaceCursor cursor(scratch);
        C* const weights = cursor.take<C>(list.size() * width);  // [list, width]
        C* const transposed = cursor.take<C>(dim * width);       // [dim, width]
        C* const keys = cursor.take<C>(key_block * dim);
        C* const query = cursor.take<C>(dim);
        C* const angles = cursor.take<C>(dim);
        C* const shares = cursor.take<C>(width);
        C* const unpooled = cursor.take<C>(span.size());

        // A lane is a query: row r that of group member r % heads of token r / heads.
        const auto factor = static_cast<C>(scale > 0 ? scale : 1 / std::sqrt(static_cast<double>(dim)));
        const auto visible = [&](Index row) {
            return std::max<Index>(1, list.size() - asking + 1 + row / queries.heads);
        };
        std::fill_n(transposed, dim * width, C{0});
        for (Index r = 0; r < rows; ++r) {
            const C* const asked = queries.query(first + r / queries.heads, r % queries.heads);
            if (span.rope() != nullptr) {
                const Index position = span.query_position(asking - 1 - r / queries.heads);
                span.rope()->turn(asked, 1, query, 1, span.rope()->angles(position, angles));
            } else {
                std::copy_n(asked, dim, query);
            }
            for (Index d = 0; d < dim; ++d) transposed[d * width + r] = query[d] * factor;
        }
        for (Index begin = 0; begin < list.size(); begin += key_block) {
            const Index count = std::min(key_block, list.size() - begin);
            for (Index i = 0; i < count; ++i) list.load_stored_key(begin + i, keys + i * dim);
            lane_product({keys, dim, 1}, count, dim, LaneRows<const C>{transposed, width},
                         LaneRows<C>{weights + begin * width, width}, width, FromZero{});
            for (Index i = begin; i < begin + count; ++i) {
                const C more = list.log_weight(i);
                for (Index r = 0; r < width && more != 0; ++r) weights[i * width + r] += more;
            }
        }
        for (Index r = 0; r < rows; ++r) {
            for (Index i = visible(r); i < list.size(); ++i) {
                weights[i * width + r] = -std::numeric_limits<C>::infinity();
            }
        }
        exponentiate(weights, list.size(), width, shares);
        std::fill(shares + rows, shares + width, C{0});
        C* const sums = pool == 1 ? scores : unpooled;
        for (Index i = 0; i < span.size(); ++i) {
            const C* const row = weights + (span.first() + i) * width;
            C sum = 0;
            for (Index r = 0; r < rows; ++r) sum += row[r] * shares[r];
            sums[i] = sum;
        }
        if (pool > 1) share_with_neighbours(unpooled, span.size(), scores);
    }

private:
    static constexpr Index key_block = 64;

    // Each column [count] becomes exp(x - largest); `shares` [width] are 1 / their sums.
    [[gnu::flatten]] static void exponentiate(C* x, Index count, Index width, C* shares) {
        for (Index r = 0; r < width; r += lane_count<C>) {
            Lanes<C> largest = load_lanes<C>(x + r);
            for (Index i = 1; i < count; ++i) {
                largest = max_lanes<C>(largest, load_lanes<C>(x + i * width + r));
            }
            Lanes<C> sum{};
            for (Index i = 0; i < count; ++i) {
                const Lanes<C> weight = exp_lanes<C>(load_lanes<C>(x + i * width + r) - largest);
                store_lanes<C>(x + i * width + r, weight);
                sum += weight;
            }
            store_lanes<C>(shares + r, C{1} / sum);
        }
    }

    void share_with_neighbours(const C* from, Index count, C* to) const {
        for (Index i = 0; i < count; ++i) {
            const C* const begin = from + std::max<Index>(0, i - pool / 2);
            const C* const end = from + std::min(count, i + pool / 2 + 1);
            if (pooling == Pooling::maximum) {
                to[i] = *std::max_element(begin, end);
            } else {
                C sum = 0;
                for (const C* x = begin; x != end; ++x) sum += *x;
                to[i] = sum / static_cast<C>(pool);
            }
        }
    }
};

}  // namespace freqkv::detail::inline FREQKV_ISA
