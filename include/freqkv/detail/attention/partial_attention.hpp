// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail {

// Softmax attention of the `rows` queries of one token that share a KV head to a stretch of its keys, to be
// combined with that of other stretches: for each row the sum of values weighted by exp(score - largest), the
// sum of these weights, and the largest score. Bound by memory: each key and value is read from there once for
// all rows, and 16-bit ones are converted in registers.
template <class C>
class PartialAttention {
public:
    // Keys of one stretch. Fixed, so that the order of summation depends on sizes alone.
    static constexpr Index max_keys = 256;

    // Elements of one result.
    static constexpr Index size(Index rows, Index value_dim) {
        return whole_lanes<C>(rows * (whole_lanes<C>(value_dim) + 2));
    }

    // `data` holds size() elements.
    PartialAttention(C* data, Index rows, Index value_dim)
        : rows_(rows),
          row_stride_(whole_lanes<C>(value_dim)),
          weighted_(data),
          sum_(data + rows * row_stride_),
          largest_(sum_ + rows) {}

    // q [rows, whole_lanes(key_dim)], rotated, scaled, and 0 behind key_dim; scores [rows, max_keys] is scratch.
    // At most max_keys keys. `next_keys` [up to max_keys, key_dim] are those that the caller goes on with.
    template <class T>
    void attend(const C* q, MatrixView<const T> keys, MatrixView<const T> values, MatrixView<const T> next_keys,
                C* scores) const {
        Index t = 0;
        for (; t + block <= keys.rows; t += block) {
            for (Index k = 0; k < block; ++k) {
                if (rows_ > 1) fetch(values.row(t + k), values.columns);
                if (rows_ == 1 && sizeof(T) > 2) fetch(keys.row(t + k), keys.columns, ahead * keys.row_stride);
            }
            score_rows<block, 4>(q, keys, t, 0, scores);
        }
        for (; t < keys.rows; ++t) score_rows<1, 4>(q, keys, t, 0, scores);
        for (Index r = 0; r < rows_; ++r) soften(scores + r * max_keys, keys.rows, r);
        weigh_rows<4>(scores, values, next_keys, 0);
    }

    // Row r of the attention to all stretches, in order, to out [value_dim]; and the logarithm of the sum of its
    // exponentiated scores to `log_sum`, unless that is null.
    template <class Out>
    static void combine(C* partials, Index count, Index rows, Index value_dim, Index r, Out* out, Index out_stride,
                        Out* log_sum) {
        const Index stride = size(rows, value_dim);
        C largest = -std::numeric_limits<C>::infinity();
        for (Index p = 0; p < count; ++p) {
            largest = std::max(largest, PartialAttention(partials + p * stride, rows, value_dim).largest_[r]);
        }
        C sum = 0;
        for (Index p = 0; p < count; ++p) {
            const PartialAttention partial(partials + p * stride, rows, value_dim);
            partial.largest_[r] = std::exp(partial.largest_[r] - largest);  // from here on its weight
            sum += partial.sum_[r] * partial.largest_[r];
        }
        if (log_sum != nullptr) *log_sum = static_cast<Out>(largest + std::log(sum));
        for (Index d = 0; d < value_dim; d += lane_count<C>) {
            Lanes<C> weighted{};
            for (Index p = 0; p < count; ++p) {
                const PartialAttention partial(partials + p * stride, rows, value_dim);
                weighted += load_lanes<C>(partial.weighted_ + r * partial.row_stride_ + d) * partial.largest_[r];
            }
            weighted /= sum;
            const Index width = std::min(lane_count<C>, value_dim - d);
            for (Index i = 0; i < width; ++i) out[(d + i) * out_stride] = static_cast<Out>(weighted[i]);
        }
    }

private:
    // Keys whose scores are summed at once, and registers of values of one pass over them.
    static constexpr Index block = register_count / 8;

    // The second-level cache is filled ahead of the use, for processors by themselves stop at the end of a page.
    // One row of queries: some rows of the same matrix ahead, which at the end of a stretch are the first ones of
    // a later stretch (not for 16 bits, whose conversion leaves memory the time). Several rows, whose arithmetic takes
    // about as long as memory: a stretch ahead, values while keys are used and the other way round.
    static constexpr Index ahead = 16;

    // `count` elements, `distance` elements behind `row`, which may be where there is no memory.
    template <class T>
    FREQKV_INLINE static void fetch(const T* row, Index count, Index distance = 0) {
        constexpr auto element = static_cast<Index>(sizeof(T));
        const auto address = reinterpret_cast<std::uintptr_t>(row) + static_cast<std::uintptr_t>(distance * element);
        for (Index i = 0; i < count * element; i += 64) {
            const auto line = address + static_cast<std::uintptr_t>(i);
            __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);  // NOLINT(performance-no-int-to-ptr)
        }
    }

    // Scores of Keys keys from t on, for rows from r on, Rows at a time.
    template <Index Keys, Index Rows, class T>
    void score_rows(const C* q, MatrixView<const T> keys, Index t, Index r, C* scores) const {
        for (; r + Rows <= rows_; r += Rows) {
            score<Keys, Rows>(q + r * whole_lanes<C>(keys.columns), keys, t, scores + r * max_keys + t);
        }
        if constexpr (Rows > 1) score_rows<Keys, Rows / 2>(q, keys, t, r, scores);
    }

    template <Index Keys, Index Rows, class T>
    [[gnu::flatten]] static void score(const C* q, MatrixView<const T> keys, Index t, C* scores) {
        Lanes<C> sums[Rows * Keys] = {};
        // For one row the order of memory counts: key after key, or two of 16 bits, which hides the conversion.
        constexpr Index together = Rows > 1 || Keys == 1 ? Keys : sizeof(T) == 2 ? 2 : 1;
        unrolled<Keys / together>(
            [&](auto k) { add_products<together, Rows>(q, keys, t + k * together, sums + k * together); });
        C to[whole_lanes<C>(Rows * Keys)];
        store_sums<C>(sums, to);
        for (Index r = 0; r < Rows; ++r) std::copy_n(to + r * Keys, Keys, scores + r * max_keys);
    }

    // sums [Rows, Keys] += the products of queries and keys, the lanes of which are still to be summed.
    template <Index Keys, Index Rows, class T>
    FREQKV_INLINE static void add_products(const C* q, MatrixView<const T> keys, Index t, Lanes<C>* sums) {
        const auto add = [&](Index d, auto&& load) {
            Lanes<C> x[Keys];
            unrolled<Keys>([&](auto k) { x[k] = load(keys.row(t + k) + d); });
            unrolled<Rows>([&](auto r) {
                const auto y = in_register<C>(load_lanes<C>(q + r * whole_lanes<C>(keys.columns) + d));
                unrolled<Keys>([&](auto k) { sums[r * Keys + k] += x[k] * y; });
            });
        };
        Index d = 0;
        for (; d + lane_count<C> <= keys.columns; d += lane_count<C>) {
            add(d, [](const T* from) { return load_lanes<C>(from); });
        }
        if (d < keys.columns) add(d, [&](const T* from) { return load_part<C>(from, keys.columns - d); });
    }

    // Scores [count] of row r become weights.
    [[gnu::flatten]] void soften(C* scores, Index count, Index r) const {
        const Index end = whole_lanes<C>(count);
        std::fill(scores + count, scores + end, -std::numeric_limits<C>::infinity());
        Lanes<C> lanes = load_lanes<C>(scores);
        for (Index t = lane_count<C>; t < end; t += lane_count<C>) {
            lanes = max_lanes<C>(lanes, load_lanes<C>(scores + t));
        }
        C largest = lanes[0];
        for (Index i = 1; i < lane_count<C>; ++i) largest = std::max(largest, lanes[i]);
        lanes = Lanes<C>{};
        for (Index t = 0; t < end; t += lane_count<C>) {
            const Lanes<C> weights = exp_lanes<C>(load_lanes<C>(scores + t) - largest);
            store_lanes<C>(scores + t, weights);
            lanes += weights;
        }
        largest_[r] = largest;
        sum_[r] = 0;
        for (Index i = 0; i < lane_count<C>; ++i) sum_[r] += lanes[i];
    }

    // Weighted sums of the values for rows from r on, Rows at a time.
    template <Index Rows, class T>
    void weigh_rows(const C* weights, MatrixView<const T> values, MatrixView<const T> next_keys, Index r) const {
        constexpr Index registers = block * std::min<Index>(4 / Rows, 2);
        for (; r + Rows <= rows_; r += Rows) {
            weigh_columns<Rows, registers>(weights + r * max_keys, values, 0, weighted_ + r * row_stride_,
                                           next_keys.middle_rows(0, r == 0 ? next_keys.rows : 0));
        }
        if constexpr (Rows > 1) weigh_rows<Rows / 2>(weights, values, next_keys, r);
    }

    // Columns from d on, Registers at a time.
    template <Index Rows, Index Registers, class T>
    void weigh_columns(const C* weights, MatrixView<const T> values, Index d, C* to,
                       MatrixView<const T> next_keys) const {
        constexpr Index width = Registers * lane_count<C>;
        for (; d + width <= values.columns; d += width) {
            weigh<Rows, Registers>(weights, values, d, to + d, next_keys,
                                   [](const T* from) { return load_lanes<C>(from); });
        }
        if constexpr (Registers > 1) {
            weigh_columns<Rows, Registers / 2>(weights, values, d, to, next_keys);
        } else if (d < values.columns) {
            const auto load = [&](const T* from) { return load_part<C>(from, values.columns - d); };
            weigh<Rows, 1>(weights, values, d, to + d, next_keys, load);
        }
    }

    template <Index Rows, Index Registers, class T, class Load>
    [[gnu::flatten]] void weigh(const C* weights, MatrixView<const T> values, Index d, C* to,
                                MatrixView<const T> next_keys, Load load) const {
        Lanes<C> sums[Rows * Registers] = {};
        for (Index t = 0; t < values.rows; ++t) {
            if (rows_ == 1 && sizeof(T) > 2) {
                fetch(values.row(t) + d, Registers * lane_count<C>, ahead * values.row_stride);
            } else if (Rows > 1 && t < next_keys.rows) {
                fetch(next_keys.row(t) + d, std::min(Registers * lane_count<C>, next_keys.columns - d));
            }
            Lanes<C> x[Registers];
            unrolled<Registers>([&](auto i) { x[i] = load(values.row(t) + d + i * lane_count<C>); });
            unrolled<Rows>([&](auto r) {
                const C weight = weights[r * max_keys + t];
                unrolled<Registers>([&](auto i) { sums[r * Registers + i] += x[i] * weight; });
            });
        }
        unrolled<Rows>([&](auto r) {
            unrolled<Registers>(
                [&](auto i) { store_lanes<C>(to + r * row_stride_ + i * lane_count<C>, sums[r * Registers + i]); });
        });
    }

    Index rows_;
    Index row_stride_;  // of weighted_
    C* weighted_;       // [rows, whole_lanes(value_dim)]
    C* sum_;            // [rows]
    C* largest_;        // [rows]
};

}  // namespace freqkv::detail
