// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/attention/score_cap.hpp"
#include "freqkv/detail/lanes/lane_product.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// Which keys the rows of a tile see: row r is a query of token (first + r) / group of a chunk whose tokens
// stand at `base` and after it, and sees the latest `window` keys up to its own.
struct CausalRows {
    Index base;
    Index first;
    Index group;
    Index window;

    Index visible(Index row) const { return base + (first + row) / group + 1; }
    // The first that it sees.
    Index begin(Index row) const { return std::max<Index>(0, visible(row) - window); }
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
    // A row of a window sees something of the first block.
    static_assert(max_rows <= block_keys);

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
          rescale_(sum_ + max_rows),
          key_scratch_(rescale_ + max_rows),
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

    // Attends to the keys that the rows see; keys and values are dense. Scores are capped at `cap`, unless it is 0, and
    // `more` [keys] is then added to them, unless it is null.
    template <class Rows>
    void attend(const Rows& keys, const Rows& values, const CausalRows& causal, C cap, const C* more) {
        const Index end = causal.visible(rows_ - 1);
        for (Index begin = causal.begin(0); begin < end; begin += block_keys) {
            const Index n = std::min(block_keys, end - begin);
            const C* const k = rows_as_arithmetic(keys, begin, n, key_scratch_);
            const C* const v = rows_as_arithmetic(values, begin, n, value_scratch_);
            multiply({k, key_dim_, 1}, n, key_dim_, q_, scores_, FromZero{});
            if (cap > 0) cap_scores(scores_, n * max_rows, cap);
            if (more != nullptr) add_to_scores(n, more + begin);
            if (causal.visible(0) < begin + n) mask_later(n, begin, causal);
            if (causal.begin(rows_ - 1) > begin) mask_earlier(n, begin, causal);
            exponentiate(n);
            multiply({v, 1, value_dim_}, value_dim_, n, scores_, weighted_, FromScaledResult<C>{rescale_});
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
    // result [count, max_rows] = a [count, depth] b [depth, max_rows] added to what `first` says.
    template <class First>
    static void multiply(LeftMatrix<C> a, Index count, Index depth, const C* b, C* result, First first) {
        lane_product_rows<row_registers, 6, 2, 1>(a, count, depth, LaneRows<const C>{b, max_rows},
                                                  LaneRows<C>{result, max_rows}, 0, first);
    }

    [[gnu::flatten]] void add_to_scores(Index n, const C* more) {
        for (Index t = 0; t < n; ++t) {
            for (Index r = 0; r < max_rows; r += lane_count<C>) {
                C* const scores = scores_ + t * max_rows + r;
                store_lanes<C>(scores, load_lanes<C>(scores) + more[t]);
            }
        }
    }

    // The scores of keys behind a row's own become -inf.
    [[gnu::flatten]] void mask_later(Index n, Index begin, const CausalRows& causal) {
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

    // And those of keys before a row's window. Rows that there are not do as the last one, for a row that saw nothing
    // would make NaN.
    [[gnu::flatten]] void mask_earlier(Index n, Index begin, const CausalRows& causal) {
        for (Index r = 0; r < max_rows; r += lane_count<C>) {
            Lanes<C> hidden{};
            for (Index i = 0; i < lane_count<C>; ++i) {
                const Index row = std::min(r + i, rows_ - 1);
                hidden[i] = static_cast<C>(std::clamp<Index>(causal.begin(row) - begin, 0, n));
            }
            for (Index t = 0; t < n; ++t) {
                C* const scores = scores_ + t * max_rows + r;
                const Lanes<C> unseen = Lanes<C>{} - std::numeric_limits<C>::infinity();
                store_lanes<C>(scores, hidden > static_cast<C>(t) ? unseen : load_lanes<C>(scores));
            }
        }
    }

    // The scores of n keys become weights; earlier weights have to be multiplied by rescale_, for the largest score may
    // have grown.
    [[gnu::flatten]] void exponentiate(Index n) {
        for (Index r = 0; r < max_rows; r += lane_count<C>) {
            const Lanes<C> before = load_lanes<C>(largest_ + r);
            Lanes<C> largest = before;
            for (Index t = 0; t < n; ++t) {
                largest = max_lanes<C>(largest, load_lanes<C>(scores_ + t * max_rows + r));
            }
            const Lanes<C> rescale = exp_lanes<C>(before - largest);
            Lanes<C> sum = load_lanes<C>(sum_ + r) * rescale;
            for (Index t = 0; t < n; ++t) {
                C* const scores = scores_ + t * max_rows + r;
                const Lanes<C> weights = exp_lanes<C>(load_lanes<C>(scores) - largest);
                store_lanes<C>(scores, weights);
                sum += weights;
            }
            store_lanes<C>(largest_ + r, largest);
            store_lanes<C>(sum_ + r, sum);
            store_lanes<C>(rescale_ + r, rescale);
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
    C* rescale_;        // [max_rows]
    C* key_scratch_;    // [block_keys, key_dim]
    C* value_scratch_;  // [block_keys, value_dim]
};

}  // namespace freqkv::detail::inline FREQKV_ISA
