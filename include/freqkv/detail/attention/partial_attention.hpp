// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/attention/score_cap.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

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
    // At most max_keys keys. `next_keys` [up to max_keys, key_dim] are those that the caller goes on with. Scores are
    // capped at `cap`, unless it is 0, and `more` [keys] is then added to them, unless it is null.
    template <class T>
    void attend(const C* q, MatrixView<const T> keys, MatrixView<const T> values, MatrixView<const T> next_keys,
                C* scores, C cap, const C* more) const {
        weigh(q, keys, values, scores, cap, more);
        add_values(scores, values, next_keys);
    }

    // The first half of it: exp(score - largest) to `scores`. `values`, which may be none, are fetched. Not inlined, so
    // that whoever calls it for the same keys gets the same bits.
    template <class T>
    [[gnu::noinline]] void weigh(const C* q, MatrixView<const T> keys, MatrixView<const T> values, C* scores, C cap,
                                 const C* more) const {
        const auto score_rows = [&](auto count, Index t) {
            in_halves<4>(rows_, [&](auto rows, Index r) {
                score<count, rows>(q + r * whole_lanes<C>(keys.columns), keys, t, scores + r * max_keys + t);
            });
        };
        const Index whole = keys.rows / block * block;
        for (Index t = 0; t < whole; t += block) {
            for (Index k = t; k < t + block; ++k) {
                if (rows_ > 1) fetch(values.row(k), values.columns);
                if (rows_ == 1 && is_wide<T>) fetch(keys.row(k), keys.columns, ahead * keys.row_stride);
            }
            score_rows(Constant<block>{}, t);
        }
        for (Index t = whole; t < keys.rows; ++t) score_rows(Constant<1>{}, t);
        for (Index r = 0; r < rows_; ++r) exponentiate(scores + r * max_keys, keys.rows, r, cap, more);
    }

    // Before row r of several stretches is put together: the largest_ of each becomes the factor of its weights.
    struct Total {
        C largest;
        C sum;  // of all weights, each times its stretch's factor
    };
    [[gnu::noinline]] static Total make_factors(C* partials, Index count, Index rows, Index value_dim, Index r) {
        const Index stride = size(rows, value_dim);
        Total total{-std::numeric_limits<C>::infinity(), 0};
        for (Index p = 0; p < count; ++p) {
            const PartialAttention partial(partials + p * stride, rows, value_dim);
            total.largest = std::max(total.largest, partial.largest_[r]);
        }
        for (Index p = 0; p < count; ++p) {
            const PartialAttention partial(partials + p * stride, rows, value_dim);
            partial.largest_[r] = std::exp(partial.largest_[r] - total.largest);
            total.sum += partial.sum_[r] * partial.largest_[r];
        }
        return total;
    }

    // Behind make_factors(), which found `sum`, adds to mass [keys] what row r gives to each of the stretch's `keys`
    // keys; `weights` is what weigh() left, [rows, max_keys].
    [[gnu::noinline]] void add_mass(Index r, C sum, const C* weights, Index keys, C* mass) const {
        const C share = largest_[r] / sum;
        for (Index t = 0; t < keys; ++t) mass[t] += weights[r * max_keys + t] * share;
    }

    // Row r of the attention to all stretches, in order, to out [value_dim]; and the logarithm of the sum of its
    // exponentiated scores to `log_sum`, unless that is null. Gives back the sum that make_factors() found.
    template <class Out, class Sum>
    static C combine(C* partials, Index count, Index rows, Index value_dim, Index r, Out* out, Index out_stride,
                     Sum* log_sum) {
        const Index stride = size(rows, value_dim);
        const auto [largest, sum] = make_factors(partials, count, rows, value_dim, r);
        if (log_sum != nullptr) *log_sum = static_cast<Sum>(largest + std::log(sum));
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
        return sum;
    }

private:
    // Keys whose scores are summed at once, and registers of values of one pass over them.
    static constexpr Index block = register_count / 8;

    // Processors stop fetching ahead by themselves at the end of a page, so this does it for them, to the second-level
    // cache. With one row of queries, memory sets the pace: rows of the same matrix, that many ahead. At the end of a
    // stretch these are the first ones of the next. (Not with 16 bits, whose conversion takes so long that memory keeps
    // up.) With several rows, arithmetic takes about as long as memory: values are fetched while keys are used, and the
    // keys of the next stretch while values are. Rows of packed elements are so short that they need it with one row,
    // too.
    static constexpr Index ahead = 16;

    template <class T>
    static constexpr bool is_wide = sizeof(T) > 2;  // rows of packed elements are read by records

    // `count` elements, `distance` T's behind `row`, which may be where there is no memory.
    template <class T>
    FREQKV_INLINE static void fetch(const T* row, Index count, Index distance = 0) {
        constexpr auto element = static_cast<Index>(sizeof(T));
        const auto address = reinterpret_cast<std::uintptr_t>(row) + static_cast<std::uintptr_t>(distance * element);
        for (Index i = 0; i < row_length<T>(count) * element; i += 64) {
            const auto line = address + static_cast<std::uintptr_t>(i);
            __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);  // NOLINT(performance-no-int-to-ptr)
        }
    }

    // Scores of Keys keys from t on for Rows rows.
    template <Index Keys, Index Rows, class T>
    [[gnu::flatten, gnu::noinline]] static void score(const C* q, MatrixView<const T> keys, Index t, C* scores) {
        Lanes<C> sums[Rows * Keys] = {};
        // For one row the order of memory counts: key after key, or two of 16 bits, which hides the conversion.
        constexpr Index together = Rows > 1 || Keys == 1 || is_packed<T> ? Keys : is_wide<T> ? 1 : 2;
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
            unrolled<Keys>([&](auto k) { x[k] = load(keys.row(t + k), d); });
            unrolled<Rows>([&](auto r) {
                const auto y = in_register<C>(load_lanes<C>(q + r * whole_lanes<C>(keys.columns) + d));
                unrolled<Keys>([&](auto k) { sums[r * Keys + k] += x[k] * y; });
            });
        };
        Index d = 0;
        for (; d + lane_count<C> <= keys.columns; d += lane_count<C>) {
            add(d, [](const T* row, Index at) { return load_lanes<C>(row + at); });
        }
        if (d < keys.columns) {
            add(d, [&](const T* row, Index at) { return load_part<C>(row + at, keys.columns - at); });
        }
    }

    // Levels are multiplied, and what comes of a group is multiplied by its scale.
    template <Index Keys, Index Rows, int Bits>
    FREQKV_INLINE static void add_products(const C* q, MatrixView<const Packed<Bits>> keys, Index t, Lanes<C>* sums) {
        constexpr Index group = Packed<Bits>::group;
        const Index stride = whole_lanes<C>(keys.columns);
        const Packed<Bits>* at = keys.row(t);
        const auto add = [&](const C* some, auto registers) FREQKV_INLINE_LAMBDA {
            Lanes<C> products[Rows * Keys] = {};
            unrolled<registers>([&](auto i) {
                Lanes<C> x[Keys];
                unrolled<Keys>([&](auto k) { x[k] = load_level_lanes(at[k * keys.row_stride], i * lane_count<C>); });
                unrolled<Rows>([&](auto r) {
                    const auto y = in_register<C>(load_lanes<C>(some + r * stride + i * lane_count<C>));
                    unrolled<Keys>([&](auto k) { products[r * Keys + k] += x[k] * y; });
                });
            });
            C scales[Keys];
            load_scales<Keys>(at, keys.row_stride, scales);
            unrolled<Rows * Keys>([&](auto i) { sums[i] += products[i] * scales[i % Keys]; });
        };
        Index d = 0;
        for (; d + group <= stride; d += group, ++at) add(q + d, Constant<group / lane_count<C>>{});
        unrolled<group / lane_count<C>>([&](auto registers) {
            if (registers > 0 && d + registers * lane_count<C> == stride) add(q + d, registers);
        });
    }

    // Scores [count] of row r become weights.
    [[gnu::flatten]] void exponentiate(C* scores, Index count, Index r, C cap, const C* more) const {
        const Index end = whole_lanes<C>(count);
        if (cap > 0) {
            std::fill(scores + count, scores + end, C{0});
            cap_scores(scores, end, cap);
        }
        if (more != nullptr) {
            for (Index t = 0; t < count; ++t) scores[t] += more[t];
        }
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

    // Weighted sums of the values, some rows of weights and some registers of columns at a time.
    template <class T>
    void add_values(const C* weights, MatrixView<const T> values, MatrixView<const T> next_keys) const {
        in_halves<4>(rows_, [&](auto rows, Index r) {
            constexpr Index registers = block * std::min<Index>(4 / rows, 2);
            const MatrixView<const T> next = next_keys.middle_rows(0, r == 0 ? next_keys.rows : 0);
            C* const to = weighted_ + r * row_stride_;
            const auto whole = [](const T* row, Index d) { return load_lanes_at<C>(row, d); };
            in_halves<registers>(values.columns / lane_count<C>, [&](auto count, Index i) {
                const Index d = i * lane_count<C>;
                add_block<rows, count>(weights + r * max_keys, values, d, to + d, next, whole);
            });
            if (const Index rest = values.columns % lane_count<C>; rest > 0) {
                const Index d = values.columns - rest;
                const auto part = [&](const T* row, Index at) { return load_part_at<C>(row, at, rest); };
                add_block<rows, 1>(weights + r * max_keys, values, d, to + d, next, part);
            }
        });
    }

    template <Index Rows, Index Registers, class T, class Load>
    [[gnu::flatten, gnu::noinline]] void add_block(const C* weights, MatrixView<const T> values, Index d, C* to,
                                                   MatrixView<const T> next_keys, Load load) const {
        Lanes<C> sums[Rows * Registers] = {};
        for (Index t = 0; t < values.rows; ++t) {
            if (rows_ == 1 && is_wide<T>) {
                fetch(values.row(t) + row_length<T>(d), Registers * lane_count<C>, ahead * values.row_stride);
            } else if (Rows > 1 && t < next_keys.rows) {
                fetch(next_keys.row(t) + row_length<T>(d), std::min(Registers * lane_count<C>, next_keys.columns - d));
            }
            Lanes<C> x[Registers];
            unrolled<Registers>([&](auto i) { x[i] = load(values.row(t), d + i * lane_count<C>); });
            unrolled<Rows>([&](auto r) {
                const C weight = weights[r * max_keys + t];
                unrolled<Registers>([&](auto i) { sums[r * Registers + i] += x[i] * weight; });
            });
        }
        store_block<Rows, Registers>(sums, to);
    }

    // The same of packed ones: scales are multiplied with the weights before.
    template <Index Rows, Index Registers, int Bits, class Load>
    [[gnu::flatten, gnu::noinline]] void add_block(const C* weights, MatrixView<const Packed<Bits>> values, Index d,
                                                   C* to, MatrixView<const Packed<Bits>> next_keys,
                                                   Load /*rows are whole registers*/) const {
        constexpr Index group = Packed<Bits>::group;
        constexpr Index groups = (Registers * lane_count<C> + group - 1) / group;  // that the columns may touch
        alignas(64) C factors[Rows * groups][max_keys];
        for (Index g = 0; g < groups && d / group + g < row_length<Packed<Bits>>(values.columns); ++g) {
            C scales[max_keys];
            const auto collect = [&](auto count, Index t) {
                load_scales<count>(values.row(t) + d / group + g, values.row_stride, scales + t);
            };
            const Index fours = values.rows / 4 * 4;
            for (Index t = 0; t < fours; t += 4) collect(Constant<4>{}, t);
            for (Index t = fours; t < values.rows; ++t) collect(Constant<1>{}, t);
            for (Index t = 0; t < values.rows; t += lane_count<C>) {
                const Lanes<C> lanes = load_lanes<C>(scales + t);
                for (Index r = 0; r < Rows; ++r) {
                    store_lanes<C>(factors[r * groups + g] + t, lanes * load_lanes<C>(weights + r * max_keys + t));
                }
            }
        }
        Lanes<C> sums[Rows * Registers] = {};
        for (Index t = 0; t < values.rows; ++t) {
            if (rows_ == 1) {
                fetch(values.row(t) + d / group, Registers * lane_count<C>, ahead * values.row_stride);
            } else if (Rows > 1 && t < next_keys.rows) {
                fetch(next_keys.row(t) + d / group, std::min(Registers * lane_count<C>, next_keys.columns - d));
            }
            Lanes<C> x[Registers];
            unrolled<Registers>([&](auto i) {
                const Index at = d % group + i * lane_count<C>;
                x[i] = load_level_lanes(values.row(t)[d / group + at / group], at % group);
            });
            unrolled<Rows>([&](auto r) {
                unrolled<Registers>([&](auto i) {
                    const Index at = d % group + i * lane_count<C>;
                    sums[r * Registers + i] += x[i] * factors[r * groups + at / group][t];
                });
            });
        }
        store_block<Rows, Registers>(sums, to);
    }

    template <Index Rows, Index Registers>
    FREQKV_INLINE void store_block(const Lanes<C>* sums, C* to) const {
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

}  // namespace freqkv::detail::inline FREQKV_ISA
