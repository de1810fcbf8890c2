// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/detail/attention/score_cap.hpp"
#include "freqkv/detail/attention/tile_attention.hpp"
#include "freqkv/detail/lanes/lane_product.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The gradients of softmax attention to one list of keys and values, for tiles of query rows over blocks of
// keys. With scores S = Q K^T, weights P = exp(S - log_sum), the gradient G of the result O and D = rowsum(G O):
//
//     dV += P^T G        dP = G V^T        dS = P (dP - D)        dQ += dS K        dK += dS^T Q
//
// Where scores are capped, P is that of the capped ones, s = cap tanh(S / cap), and dS has a factor 1 - (s / cap)^2.
// Where entries have weights, their logarithms are added to S, or s, and are constants.
// Five products, which are what it takes. Lanes are keys in S and dP, so keys and values are laid out once for a
// list with neighbouring entries side by side; a tile's queries are taken as they lie. Scratch is that layout and
// one block of P and dS, whatever the number of rows.
template <class C>
class AttentionAdjoint {
public:
    static constexpr Index max_rows = 96;
    static constexpr Index block_keys = 64;

    // Bytes of scratch for lists of up to `entries`, which have weights or not.
    static Index bytes(Index entries, Index key_dim, Index value_dim, bool weighted) {
        const Index keys = padded(entries);
        const Index key_width = whole_lanes<C>(key_dim);
        const Index value_width = whole_lanes<C>(value_dim);
        return WorkspaceCursor::size<C>(keys * key_width) + WorkspaceCursor::size<C>(keys * key_dim) +
               WorkspaceCursor::size<C>(keys * value_dim) + (weighted ? WorkspaceCursor::size<C>(keys) : 0) +
               2 * WorkspaceCursor::size<C>(max_rows * key_width) + WorkspaceCursor::size<C>(max_rows * value_width) +
               2 * WorkspaceCursor::size<C>(max_rows * block_keys) + 2 * WorkspaceCursor::size<C>(max_rows);
    }

    AttentionAdjoint(WorkspaceCursor& scratch, Index entries, Index key_dim, Index value_dim, bool weighted)
        : key_dim_(key_dim),
          value_dim_(value_dim),
          key_width_(whole_lanes<C>(key_dim)),
          value_width_(whole_lanes<C>(value_dim)) {
        const Index keys = padded(entries);
        keys_ = scratch.take<C>(keys * key_width_);
        key_columns_ = scratch.take<C>(keys * key_dim);
        value_columns_ = scratch.take<C>(keys * value_dim);
        log_weights_ = weighted ? scratch.take<C>(keys) : nullptr;
        q_ = scratch.take<C>(max_rows * key_width_);
        dq_ = scratch.take<C>(max_rows * key_width_);
        g_ = scratch.take<C>(max_rows * value_width_);
        p_ = scratch.take<C>(max_rows * block_keys);
        ds_ = scratch.take<C>(max_rows * block_keys);
        log_sum_ = scratch.take<C>(max_rows);
        delta_ = scratch.take<C>(max_rows);
        std::fill_n(q_, max_rows * key_width_, C{0});
        std::fill_n(g_, max_rows * value_width_, C{0});
    }

    // The list: rotated keys [entries, key_dim] and values [entries, value_dim]. Whoever fills in the keys calls
    // set_key() for each entry, then set_value(), where there are weights set_log_weights(), and finish_list().
    void set_key(Index entry, const C* key) {
        C* const row = keys_ + entry * key_width_;
        std::copy_n(key, key_dim_, row);
        std::fill(row + key_dim_, row + key_width_, C{0});
        C* const column = key_columns_ + column_of(entry, key_dim_);
        for (Index d = 0; d < key_dim_; ++d) column[d * block_keys] = key[d];
    }
    void set_value(Index entry, const C* value, Index stride) {
        C* const column = value_columns_ + column_of(entry, value_dim_);
        for (Index d = 0; d < value_dim_; ++d) column[d * block_keys] = value[d * stride];
    }
    // Of the first entries; the others, up to `entries`, count once.
    void set_log_weights(std::span<const C> first, Index entries) {
        C* const rest = std::copy(first.begin(), first.end(), log_weights_);
        std::fill(rest, log_weights_ + padded(entries), C{0});
    }
    // Nothing is undefined behind the last of `entries`.
    void finish_list(Index entries) {
        for (Index e = entries; e < padded(entries); ++e) {
            for (Index d = 0; d < key_dim_; ++d) key_columns_[column_of(e, key_dim_) + d * block_keys] = C{0};
            for (Index d = 0; d < value_dim_; ++d) value_columns_[column_of(e, value_dim_) + d * block_keys] = C{0};
        }
    }

    // To be filled in: a row's query [key_dim], rotated and scaled.
    C* query(Index row) { return q_ + row * key_width_; }
    // The result and its gradient [value_dim], and the log-sum-exp of the row's scores.
    void set_result(Index row, const C* out, Index out_stride, const C* gradient, Index gradient_stride, C log_sum) {
        C* const g = g_ + row * value_width_;
        C delta = 0;
        for (Index d = 0; d < value_dim_; ++d) {
            g[d] = gradient[d * gradient_stride];
            delta += g[d] * out[d * out_stride];
        }
        delta_[row] = delta;
        log_sum_[row] = log_sum;
    }

    // Gradients of `rows` rows: that of the queries to query_gradient(), those of the list are added to dk
    // [entries, whole_lanes(key_dim)] and dv [entries, whole_lanes(value_dim)]. Scores are capped at `cap`, unless it
    // is 0.
    void run(Index rows, const CausalRows& causal, C cap, C* dk, C* dv) {
        std::fill_n(dq_, rows * key_width_, C{0});
        const Index end = causal.visible(rows - 1);
        for (Index begin = causal.begin(0) / block_keys * block_keys; begin < end; begin += block_keys) {
            const Index n = std::min(block_keys, end - begin);
            // Rows before `r` see nothing of this block, and no row anything behind `width`.
            const Index r = std::max<Index>(0, (begin - causal.base) * causal.group - causal.first);
            const Index seeing = rows - r;
            const Index width = whole_lanes<C>(n);
            C* const q = q_ + r * key_width_;
            C* const g = g_ + r * value_width_;
            C* const p = p_ + r * block_keys;
            C* const ds = ds_ + r * block_keys;
            const C* const keys = keys_ + begin * key_width_;
            const C* const key_columns = key_columns_ + begin * key_dim_;
            const C* const value_columns = value_columns_ + begin * value_dim_;
            using Left = LeftMatrix<C>;
            using Right = LaneRows<const C>;
            using Result = LaneRows<C>;
            lane_product(Left{q, key_width_, 1}, seeing, key_dim_, Right{key_columns, block_keys},
                         Result{p, block_keys}, width, FromZero{});
            lane_product(Left{g, value_width_, 1}, seeing, value_dim_, Right{value_columns, block_keys},
                         Result{ds, block_keys}, width, FromZero{});
            differentiate_softmax(r, rows, begin, width, causal, cap);
            lane_product(Left{p, 1, block_keys}, n, seeing, Right{g, value_width_},
                         Result{dv + begin * value_width_, value_width_}, value_width_, FromResult{});
            lane_product(Left{ds, 1, block_keys}, n, seeing, Right{q, key_width_},
                         Result{dk + begin * key_width_, key_width_}, key_width_, FromResult{});
            lane_product(Left{ds, block_keys, 1}, seeing, n, Right{keys, key_width_},
                         Result{dq_ + r * key_width_, key_width_}, key_width_, FromResult{});
        }
    }

    // With respect to the rotated and scaled query, [key_dim].
    C* query_gradient(Index row) { return dq_ + row * key_width_; }

private:
    // In whole blocks.
    static Index padded(Index entries) { return (entries + block_keys - 1) / block_keys * block_keys; }

    // Entries of a block stand side by side: [block][dim][block_keys].
    static Index column_of(Index entry, Index dim) {
        return entry / block_keys * block_keys * dim + entry % block_keys;
    }

    // In p, scores become weights. In ds, the gradient with respect to a weight becomes the one with respect to its
    // score. Both are 0 for keys that a row does not see.
    [[gnu::flatten]] void differentiate_softmax(Index r, Index rows, Index begin, Index width, const CausalRows& causal,
                                                C cap) {
        for (; r < rows; ++r) {
            C* const p = p_ + r * block_keys;
            C* const ds = ds_ + r * block_keys;
            for (Index t = 0; t < width; t += lane_count<C>) {
                // Above 0 only by rounding, or where the key is not seen.
                Lanes<C> score = load_lanes<C>(p + t);
                Lanes<C> slope = Lanes<C>{} + C{1};
                if (cap > 0) {
                    score = capped(score, cap);
                    slope -= score * score / (cap * cap);
                }
                if (log_weights_ != nullptr) score += load_lanes<C>(log_weights_ + begin + t);
                const Lanes<C> log_share = score - log_sum_[r];
                const Lanes<C> weight = exp_lanes<C>(log_share > C{0} ? Lanes<C>{} : log_share);
                store_lanes<C>(p + t, weight);
                store_lanes<C>(ds + t, weight * (load_lanes<C>(ds + t) - delta_[r]) * slope);
            }
            for (Index t = causal.visible(r) - begin; t < width; ++t) p[t] = ds[t] = C{0};
            for (Index t = std::min(causal.begin(r) - begin, width) - 1; t >= 0; --t) p[t] = ds[t] = C{0};
        }
    }

    Index key_dim_;
    Index value_dim_;
    Index key_width_;
    Index value_width_;
    C* keys_;           // [entries, key_width]
    C* key_columns_;    // [blocks, key_dim, block_keys]
    C* value_columns_;  // [blocks, value_dim, block_keys]
    C* log_weights_;    // [blocks, block_keys], or null
    C* q_;              // [max_rows, key_width]
    C* dq_;             // [max_rows, key_width]
    C* g_;              // [max_rows, value_width]
    C* p_;              // [max_rows, block_keys]
    C* ds_;             // [max_rows, block_keys]
    C* log_sum_;        // [max_rows]
    C* delta_;          // [max_rows]
};

}  // namespace freqkv::detail::inline FREQKV_ISA
