// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lane_product.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::inline FREQKV_ISA {

/// How a score is shared with its neighbours, so that what stands around an entry that is looked at stays as well.
enum class Pooling : std::uint8_t { maximum, mean };

/// The attention that the queries of the latest `Window` tokens give to an entry: the sum over these tokens and the
/// heads of the group of softmax weights over the whole list, each token seeing what stands before it; then pooled
/// over `pool` neighbours within the span (a mean counts those outside as 0). One query without pooling is TOVA's
/// score, of each KV head by itself.
///
/// Queries are taken to be asked at the end of the list, which is so where at least `Window` tokens came since the
/// latest compression or are in the recent part.
template <Index Window>
struct WindowAttention {
    static_assert(Window >= 1);
    static constexpr Index query_window = Window;

    Index pool = 1;  ///< odd; 1: as they are
    Pooling pooling = Pooling::maximum;
    double scale = 0;       ///< of the scores before the softmax; 0: 1 / sqrt(key_dim)
    Index latest = Window;  ///< tokens that are asked; at most Window, for which there is memory

    template <class T>
    Index scratch_bytes(const SpanReader<T>& span) const {
        using C = Arithmetic<T>;
        const Index width = detail::whole_lanes<C>(Window * std::max<Index>(1, span.queries().heads));
        return WorkspaceCursor::size<C>(checked_product("scores of a query window", span.list_size(), width)) +
               WorkspaceCursor::size<C>(span.key_dim() * width) + WorkspaceCursor::size<C>(key_block * span.key_dim()) +
               2 * WorkspaceCursor::size<C>(span.key_dim()) + WorkspaceCursor::size<C>(width) +
               WorkspaceCursor::size<C>(span.size());
    }

    /// O(latest * group * list size * key_dim). Throws Error for a `pool` that is not odd, and for `latest` outside of
    /// 1 to Window.
    template <class T>
    void score(const SpanReader<T>& span, Arithmetic<T>* scores, std::byte* scratch) const {
        using C = Arithmetic<T>;
        require(pool >= 1 && pool % 2 == 1, "pool", pool, "must be odd and at least 1");
        require(latest >= 1 && latest <= Window, "latest", latest, "must be at least 1 and at most Window");
        const QueryWindow<C>& queries = span.queries();
        const Index asking = std::min(latest, queries.tokens());
        const Index first = queries.tokens() - asking;
        const SpanReader<T> list = span.list();
        const Index dim = span.key_dim();
        const Index rows = asking * queries.heads;
        const Index width = detail::whole_lanes<C>(rows);
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
            detail::lane_product({keys, dim, 1}, count, dim, detail::LaneRows<const C>{transposed, width},
                                 detail::LaneRows<C>{weights + begin * width, width}, width, detail::FromZero{});
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
    template <class C>
    [[gnu::flatten]] static void exponentiate(C* x, Index count, Index width, C* shares) {
        using detail::Lanes;
        for (Index r = 0; r < width; r += detail::lane_count<C>) {
            Lanes<C> largest = detail::load_lanes<C>(x + r);
            for (Index i = 1; i < count; ++i) {
                largest = detail::max_lanes<C>(largest, detail::load_lanes<C>(x + i * width + r));
            }
            Lanes<C> sum{};
            for (Index i = 0; i < count; ++i) {
                const Lanes<C> weight = detail::exp_lanes<C>(detail::load_lanes<C>(x + i * width + r) - largest);
                detail::store_lanes<C>(x + i * width + r, weight);
                sum += weight;
            }
            detail::store_lanes<C>(shares + r, C{1} / sum);
        }
    }

    template <class C>
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

/// SnapKV (arXiv 2404.14469), at every compression of a text instead of once behind a prompt: what the latest Window
/// queries look at stays, with its neighbours. Give the cache a recent part of at least Window.
template <Index Window = 32>
struct SnapKV {
    WholeSpan schedule;
    SelectHighest<WindowAttention<Window>> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression; `pool` is odd, 1 for none.
    explicit SnapKV(double ratio = 0.5, Index pool = 7, Pooling pooling = Pooling::maximum)
        : schedule{ratio}, codec{{pool, pooling}} {}
};

/// TOVA (arXiv 2401.06104), many entries at once and each KV head by itself: what the latest query looks at stays.
struct Tova {
    WholeSpan schedule;
    SelectHighest<WindowAttention<1>> codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit Tova(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv::inline FREQKV_ISA
