// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail {

// Which keys the rows of a tile see: row r is a query of token (first + r) / group of a chunk whose tokens
// stand at `base` and after it, and sees all keys up to its own.
struct CausalRows {
    Index base;
    Index first;
    Index group;

    Index visible(Index row) const { return base + (first + row) / group + 1; }
};

// Online softmax over blocks of keys for a tile of query rows. Bound by arithmetic: two matrix products, in
// both of which the lanes of a register are query rows, so that keys and values are taken as they lie, one
// element against all rows, and the softmax is one of lanes.
template <class C>
class TileAttention {
    static constexpr Index row_registers = register_count / 8;

public:
    static constexpr Index max_rows = row_registers * lane_count<C>;
    static constexpr Index block_keys = 128;

    // Elements of scratch for one tile.
    static Index size(Index key_dim, Index value_dim) {
        return max_rows * (key_dim + block_keys + value_dim + 3) + block_keys * (key_dim + value_dim);
    }

    TileAttention(C* scratch, Index rows, Index key_dim, Index value_dim)
        : rows_(rows),
          key_dim_(key_dim),
          value_dim_(value_dim),
          q_(scratch),
          scores_(q_ + max_rows * key_dim),
          weighted_(scores_ + max_rows * block_keys),
          largest_(weighted_ + max_rows * value_dim),
          sum_(largest_ + max_rows),
          shrink_(sum_ + max_rows),
          key_scratch_(shrink_ + max_rows),
          value_scratch_(key_scratch_ + block_keys * key_dim) {
        std::fill_n(q_, max_rows * key_dim, C{0});
        std::fill_n(weighted_, max_rows * value_dim, C{0});
        std::fill_n(largest_, max_rows, -std::numeric_limits<C>::infinity());
        std::fill_n(sum_, max_rows, C{0});
    }

    // query [key_dim], rotated and scaled.
    void set_query(Index row, const C* query) {
        for (Index d = 0; d < key_dim_; ++d) q_[d * max_rows + row] = query[d];
    }

    // Attends to the keys that the rows see; keys and values are dense.
    template <class T>
    void attend(MatrixView<const T> keys, MatrixView<const T> values, const CausalRows& causal) {
        const Index end = causal.visible(rows_ - 1);
        for (Index begin = 0; begin < end; begin += block_keys) {
            const Index n = std::min(block_keys, end - begin);
            const C* const k = as_arithmetic(keys.row(begin), n * key_dim_, key_scratch_);
            const C* const v = as_arithmetic(values.row(begin), n * value_dim_, value_scratch_);
            multiply<6, 2, 1>({k, key_dim_, 1}, n, key_dim_, q_, Scores{scores_});
            if (causal.visible(0) < begin + n) mask(n, begin, causal);
            soften(n);
            multiply<6, 2, 1>({v, 1, value_dim_}, value_dim_, n, scores_, Weighted{weighted_, shrink_});
        }
    }

    // The finished row, to out [value_dim].
    template <class Out>
    void store(Index row, Out* out, Index out_stride) const {
        const C share = 1 / sum_[row];
        for (Index d = 0; d < value_dim_; ++d) {
            out[d * out_stride] = static_cast<Out>(weighted_[d * max_rows + row] * share);
        }
    }

    // The logarithm of the sum of the row's exponentiated scores.
    C log_sum(Index row) const { return largest_[row] + std::log(sum_[row]); }

private:
    // Element (j, i) is data[j * outer + i * inner].
    struct Strided {
        const C* data;
        Index outer;
        Index inner;
    };

    // What a product begins with.
    struct Scores {
        C* data;
        Lanes<C> first(Index, Index) const { return Lanes<C>{}; }
    };
    struct Weighted {
        C* data;
        const C* shrink;
        Lanes<C> first(Index j, Index r) const {
            return load_lanes<C>(data + j * max_rows + r) * load_lanes<C>(shrink + r);
        }
    };

    // c[j][rows] = first + sum over i < depth of a(j, i) * b[i][rows] for all j < count, J of them at a time.
    template <Index J, Index... Fewer, class Result>
    static void multiply(Strided a, Index count, Index depth, const C* b, Result c, Index j = 0) {
        for (; j + J <= count; j += J) multiply_columns<J>({a.data + j * a.outer, a.outer, a.inner}, depth, b, c, j);
        if constexpr (sizeof...(Fewer) > 0) multiply<Fewer...>(a, count, depth, b, c, j);
    }

    template <Index J, class Result>
    [[gnu::flatten]] static void multiply_columns(Strided a, Index depth, const C* b, Result c, Index first) {
        Lanes<C> sums[J * row_registers];
        unrolled<J>([&](auto j) {
            unrolled<row_registers>(
                [&](auto r) { sums[j * row_registers + r] = c.first(first + j, r * lane_count<C>); });
        });
        for (Index i = 0; i < depth; ++i) {
            Lanes<C> x[row_registers];
            unrolled<row_registers>([&](auto r) { x[r] = load_lanes<C>(b + i * max_rows + r * lane_count<C>); });
            unrolled<J>([&](auto j) {
                const C y = a.data[j * a.outer + i * a.inner];
                unrolled<row_registers>([&](auto r) { sums[j * row_registers + r] += x[r] * y; });
            });
        }
        unrolled<J>([&](auto j) {
            unrolled<row_registers>([&](auto r) {
                store_lanes<C>(c.data + (first + j) * max_rows + r * lane_count<C>, sums[j * row_registers + r]);
            });
        });
    }

    // The scores of keys that a row does not see become -inf.
    [[gnu::flatten]] void mask(Index n, Index begin, const CausalRows& causal) {
        for (Index r = 0; r < max_rows; r += lane_count<C>) {
            Lanes<C> visible{};  // GCC sees no loop that fills it
            for (Index i = 0; i < lane_count<C>; ++i) {
                visible[i] = static_cast<C>(std::clamp<Index>(causal.visible(r + i) - begin, 0, n));
            }
            for (Index t = 0; t < n; ++t) {
                C* const scores = scores_ + t * max_rows + r;
                const Lanes<C> unseen = Lanes<C>{} - std::numeric_limits<C>::infinity();
                store_lanes<C>(scores, visible > static_cast<C>(t) ? load_lanes<C>(scores) : unseen);
            }
        }
    }

    // The scores of n keys become weights; `shrink` is what earlier weights are to be multiplied by.
    [[gnu::flatten]] void soften(Index n) {
        for (Index r = 0; r < max_rows; r += lane_count<C>) {
            const Lanes<C> before = load_lanes<C>(largest_ + r);
            Lanes<C> largest = before;
            for (Index t = 0; t < n; ++t) {
                largest = max_lanes<C>(largest, load_lanes<C>(scores_ + t * max_rows + r));
            }
            const Lanes<C> shrink = exp_lanes<C>(before - largest);
            Lanes<C> sum = load_lanes<C>(sum_ + r) * shrink;
            for (Index t = 0; t < n; ++t) {
                C* const scores = scores_ + t * max_rows + r;
                const Lanes<C> weights = exp_lanes<C>(load_lanes<C>(scores) - largest);
                store_lanes<C>(scores, weights);
                sum += weights;
            }
            store_lanes<C>(largest_ + r, largest);
            store_lanes<C>(sum_ + r, sum);
            store_lanes<C>(shrink_ + r, shrink);
        }
    }

    Index rows_;
    Index key_dim_;
    Index value_dim_;
    C* q_;              // [key_dim, max_rows]
    C* scores_;         // [block_keys, max_rows]
    C* weighted_;       // [value_dim, max_rows]
    C* largest_;        // [max_rows]
    C* sum_;            // [max_rows]
    C* shrink_;         // [max_rows]
    C* key_scratch_;    // [block_keys, key_dim]
    C* value_scratch_;  // [block_keys, value_dim]
};

}  // namespace freqkv::detail
