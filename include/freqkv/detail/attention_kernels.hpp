// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <Eigen/Core>

#include "freqkv/config.hpp"
#include "freqkv/detail/convert.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

// Softmax attention of a few query rows against a stretch of one KV head, in two forms: PartialAttention
// for one token (bound by memory: each key and value is read once for all rows) and TileAttention for
// many (bound by arithmetic: matrix products). Queries come in rotated and scaled.
namespace freqkv::detail {

// Attention of `rows` queries to one stretch of keys, to be combined with that of other stretches:
// for each row the largest score, the sum of exp(score - largest) and the sum of values so weighted.
template <class C>
struct PartialAttention {
    C* largest;   // [rows]
    C* sum;       // [rows]
    C* weighted;  // [rows, value_dim]

    static constexpr Index size(Index rows, Index value_dim) { return rows * (value_dim + 2); }

    PartialAttention(C* data, Index rows) : largest(data), sum(data + rows), weighted(data + 2 * rows) {}

    // q [rows, key_dim] dense; scores [rows, keys.rows] and row (max of the dims) are scratch.
    template <class T>
    void attend(const C* q, Index rows, MatrixView<const T> keys, MatrixView<const T> values, C* scores, C* row) const {
        using Vector = Eigen::Array<C, Eigen::Dynamic, 1>;
        const Index n = keys.rows;
        const Index key_dim = keys.columns;
        const Index value_dim = values.columns;
        for (Index t = 0; t < n; ++t) {
            const C* const key = as_arithmetic(keys.row(t), key_dim, row);
            for (Index r = 0; r < rows; ++r) scores[r * n + t] = dot(q + r * key_dim, key, key_dim);
        }
        for (Index r = 0; r < rows; ++r) {
            Eigen::Map<Vector> s(scores + r * n, n);
            largest[r] = s.maxCoeff();
            s = (s - largest[r]).exp();
            sum[r] = s.sum();
        }
        std::fill_n(weighted, rows * value_dim, C{0});
        for (Index t = 0; t < n; ++t) {
            const C* const value = as_arithmetic(values.row(t), value_dim, row);
            const Eigen::Map<const Vector> v(value, value_dim);
            for (Index r = 0; r < rows; ++r) {
                Eigen::Map<Vector>(weighted + r * value_dim, value_dim) += scores[r * n + t] * v;
            }
        }
    }

    static C dot(const C* a, const C* b, Index n) {
        using Vector = Eigen::Matrix<C, Eigen::Dynamic, 1>;
        return Eigen::Map<const Vector>(a, n).dot(Eigen::Map<const Vector>(b, n));
    }

    // Row r of the attention to all stretches, in order, to out [value_dim].
    template <class Out>
    static void combine(C* partials, Index count, Index rows, Index value_dim, Index r, Out* out, Index out_stride) {
        const Index stride = size(rows, value_dim);
        C largest = -std::numeric_limits<C>::infinity();
        for (Index p = 0; p < count; ++p) {
            largest = std::max(largest, PartialAttention(partials + p * stride, rows).largest[r]);
        }
        C sum = 0;
        for (Index p = 0; p < count; ++p) {
            PartialAttention partial(partials + p * stride, rows);
            partial.largest[r] = std::exp(partial.largest[r] - largest);  // from here on its weight
            sum += partial.sum[r] * partial.largest[r];
        }
        for (Index d = 0; d < value_dim; ++d) {
            C weighted = 0;
            for (Index p = 0; p < count; ++p) {
                const PartialAttention partial(partials + p * stride, rows);
                weighted += partial.weighted[r * value_dim + d] * partial.largest[r];
            }
            out[d * out_stride] = static_cast<Out>(weighted / sum);
        }
    }
};

// Which keys the rows of a tile see: row r is a query of token (first + r) / group of a chunk whose tokens
// stand at `base` and after it, and sees all keys up to its own.
struct CausalRows {
    Index base;
    Index first;
    Index group;

    Index visible(Index row) const { return base + (first + row) / group + 1; }
};

// Online softmax over blocks of keys for a tile of query rows. Matrices are column-major with at most
// 32 rows: that is also the size up to which Eigen never spreads a product over threads of its own.
template <class C>
class TileAttention {
public:
    static constexpr Index max_rows = 32;
    static constexpr Index block_keys = 128;

    // Elements of scratch for one tile.
    static Index size(Index key_dim, Index value_dim) {
        return (max_rows + block_keys) * (key_dim + value_dim) + max_rows * (block_keys + 3);
    }

    TileAttention(C* scratch, Index rows, Index key_dim, Index value_dim)
        : q_(scratch, rows, key_dim),
          scores_(scratch + max_rows * key_dim, rows, block_keys),
          weighted_(scores_.data() + max_rows * block_keys, rows, value_dim),
          largest_(weighted_.data() + max_rows * value_dim, rows),
          sum_(largest_.data() + max_rows, rows),
          shrink_(sum_.data() + max_rows, rows),
          key_scratch_(shrink_.data() + max_rows),
          value_scratch_(key_scratch_ + block_keys * key_dim) {
        weighted_.setZero();
        sum_.setZero();
        largest_.setConstant(-std::numeric_limits<C>::infinity());
    }

    void set_query(Index row, const C* query) {
        for (Index d = 0; d < q_.cols(); ++d) q_(row, d) = query[d];
    }

    // Attends to the keys that the rows see.
    template <class T>
    void attend(MatrixView<const T> keys, MatrixView<const T> values, const CausalRows& causal) {
        const Index end = causal.visible(q_.rows() - 1);
        for (Index begin = 0; begin < end; begin += block_keys) {
            const Index n = std::min(block_keys, end - begin);
            attend_block(keys.middle_rows(begin, n), values.middle_rows(begin, n), begin, causal);
        }
    }

    // The finished row, to out [value_dim].
    template <class Out>
    void store(Index row, Out* out, Index out_stride) const {
        for (Index d = 0; d < weighted_.cols(); ++d) {
            out[d * out_stride] = static_cast<Out>(weighted_(row, d) / sum_(row));
        }
    }

private:
    using Tile = Eigen::Matrix<C, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor, max_rows, Eigen::Dynamic>;
    using Column = Eigen::Array<C, Eigen::Dynamic, 1, Eigen::ColMajor, max_rows, 1>;
    using RowMajor = Eigen::Matrix<C, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

    template <class T>
    void attend_block(MatrixView<const T> keys, MatrixView<const T> values, Index begin, const CausalRows& causal) {
        const Index n = keys.rows;
        const Eigen::Map<const RowMajor> k(as_arithmetic(keys.data, n * keys.columns, key_scratch_), n, keys.columns);
        const Eigen::Map<const RowMajor> v(as_arithmetic(values.data, n * values.columns, value_scratch_), n,
                                           values.columns);
        Eigen::Map<Tile> scores(scores_.data(), scores_.rows(), n);
        scores.noalias() = q_ * k.transpose();
        const bool masked = causal.visible(0) < begin + n;
        if (masked) mask(scores, begin, causal, -std::numeric_limits<C>::infinity());
        shrink_ = largest_;
        largest_ = largest_.max(scores.rowwise().maxCoeff().array());
        shrink_ = (shrink_ - largest_).exp();
        for (Index j = 0; j < n; ++j) scores.col(j).array() = (scores.col(j).array() - largest_).exp();
        if (masked) mask(scores, begin, causal, C{0});  // Eigen's exp(-inf) is not exactly zero
        sum_ = sum_ * shrink_ + scores.rowwise().sum().array();
        weighted_.array().colwise() *= shrink_;
        weighted_.noalias() += scores * v;
    }

    static void mask(Eigen::Map<Tile>& scores, Index begin, const CausalRows& causal, C value) {
        for (Index r = 0; r < scores.rows(); ++r) {
            const Index first = std::clamp<Index>(causal.visible(r) - begin, 0, scores.cols());
            scores.row(r).tail(scores.cols() - first).setConstant(value);
        }
    }

    Eigen::Map<Tile> q_;         // [rows, key_dim]
    Eigen::Map<Tile> scores_;    // [rows, block_keys]
    Eigen::Map<Tile> weighted_;  // [rows, value_dim]
    Eigen::Map<Column> largest_;
    Eigen::Map<Column> sum_;
    Eigen::Map<Column> shrink_;
    C* key_scratch_;    // [block_keys, key_dim]
    C* value_scratch_;  // [block_keys, value_dim]
};

}  // namespace freqkv::detail
