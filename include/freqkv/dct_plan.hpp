// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

// The transform and its contract. For n rows x[0..n) of any number of columns, each column by itself:
//
//     forward  (DCT-II)    X[k] = f(k) sum_i x[i]      cos(pi (2i + 1) k / 2n)      f(0) = sqrt(1 / n)
//     inverse  (DCT-III)   x[i] = sum_k f(k) X[k]      cos(pi (2i + 1) k / 2n)      f(k) = sqrt(2 / n)
//
// Scaling     Orthonormal: inverse(forward(x)) = x, and both keep the sum of squares (Parseval). A `scale`
//             argument multiplies the result.
// Truncation  forward() forms the first `coefficients` rows only; inverse() takes the rows behind
//             `coefficients` for zero. So forward() cut to k rows and inverse() from k rows are adjoint.
// Sizes       Any n >= 1. How fast a length is depends on the backend.
// Layout      Rows come from a RowSource and go to a RowSink, a block of at most block_columns columns at
//             a time; matrices with any strides, negative ones included, are cut into such blocks.
// Aliasing    A block is loaded whole before its first row is stored, and blocks are disjoint. So input
//             and output may begin at the same element with the same strides, and must not overlap
//             otherwise.
// Precision   float or double. The error of an element is bounded relative to the largest element of the
//             block, not of its column: a backend may carry two columns in one complex number. For the
//             same reason a NaN or infinity may spread over its block of columns, but no further.
// Results     depend on the input and on how columns are cut into blocks, on nothing else.
// Threads     A plan is const after construction and may be used by any number of threads at once, each
//             with its own scratch; copies share it.
namespace freqkv::inline FREQKV_ISA {

/// Rows of a block of columns to read: load() writes columns() values of row `row` to `values`. Must
/// not throw. C is float or double.
template <class S, class C>
concept RowSource = requires(const S& source, Index row, C* values) {
    { source.columns() } -> std::convertible_to<Index>;
    source.load(row, values);
};

/// Rows of a block of columns to write: store() takes columns() values of row `row` from `values`. Must
/// not throw.
template <class S, class C>
concept RowSink = requires(const S& sink, Index row, const C* values) {
    { sink.columns() } -> std::convertible_to<Index>;
    sink.store(row, values);
};

}  // namespace freqkv::inline FREQKV_ISA

namespace freqkv::detail::inline FREQKV_ISA {

// Stands for any source or sink where a concept is checked.
template <class C>
struct RowArchetype {
    Index columns() const;
    void load(Index row, C* values) const;
    void store(Index row, const C* values) const;
};

}  // namespace freqkv::detail::inline FREQKV_ISA

namespace freqkv::inline FREQKV_ISA {

/// What a backend's Plan<C> must have, for one length n:
///
///     explicit Plan(Index n);                        n >= 1; may throw
///     static constexpr Index block_columns;          positive and even
///     Index scratch_bytes() const;                   for one block, aligned to a cache line
///     void forward(const Source&, Index coefficients, const Sink&, std::byte* scratch, C scale) const noexcept;
///     void inverse(const Source&, Index coefficients, const Sink&, std::byte* scratch, C scale) const noexcept;
///
/// for every RowSource and RowSink of 1 to block_columns columns and 1 <= coefficients <= n, by the
/// contract at the head of this file.
template <class P, class C>
concept DctBackendPlan =
    std::constructible_from<P, Index> &&
    requires(const P& plan, const detail::RowArchetype<C>& rows, Index coefficients, std::byte* scratch, C scale) {
        requires(P::block_columns > 0 && P::block_columns % 2 == 0);
        { plan.scratch_bytes() } -> std::convertible_to<Index>;
        { plan.forward(rows, coefficients, rows, scratch, scale) } noexcept;
        { plan.inverse(rows, coefficients, rows, scratch, scale) } noexcept;
    };

/// A way to compute the transform: a type with a member template Plan<C> as DctBackendPlan says. Chosen
/// as a template argument, so that a program links what it names.
template <class B, class C>
concept DctBackend = requires { typename B::template Plan<C>; } && DctBackendPlan<typename B::template Plan<C>, C>;

/// A block of columns of a matrix as rows to read and, unless U is const, to write. Any strides; elements
/// are converted between U and the arithmetic type. Any number of columns; contiguous blocks of exactly
/// Width columns (a plan's block_columns) are the fast ones.
template <class U, Index Width = 8>
class MatrixRows {
public:
    using C = Arithmetic<U>;

    explicit MatrixRows(const MatrixView<U>& view) : view_(view) {}

    Index columns() const { return view_.columns; }

    void load(Index row, C* values) const { convert(view_.row(row), view_.column_stride, values, 1); }

    void store(Index row, const C* values) const
        requires(!std::is_const_v<U>)
    {
        convert(values, 1, view_.row(row), view_.column_stride);
    }

private:
    // A constant number of columns becomes a few vector instructions.
    template <class From, class To>
    void convert(const From* from, Index from_stride, To* to, Index to_stride) const {
        if (view_.column_stride == 1 && view_.columns == Width) {
            detail::convert_row(from, Width, to);
        } else {
            for (Index c = 0; c < view_.columns; ++c) to[c * to_stride] = static_cast<To>(from[c * from_stride]);
        }
    }

    MatrixView<U> view_;
};

/// The transform of one length, in float or double. See the contract at the head of this file.
template <class T, DctBackend<T> Backend>
class DctPlan {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "DctPlan computes in float or double");
    using Plan = typename Backend::template Plan<T>;

public:
    /// Throws Error unless 1 <= n, and if n is too large for the backend's tables.
    explicit DctPlan(Index n) : plan_(make(n)), size_(n) {}

    /// n, the number of rows.
    Index size() const { return size_; }

    /// Columns of one block at most; always even.
    static constexpr Index block_columns = Plan::block_columns;

    /// Scratch memory that one block needs, aligned to AlignedBuffer<std::byte>::alignment.
    Index scratch_bytes() const { return plan_->scratch_bytes(); }

    /// Rows [0, coefficients) of the DCT-II of the n rows of `in`, times scale. Both have the same 1 to
    /// block_columns columns; 1 <= coefficients <= n.
    template <RowSource<T> In, RowSink<T> Out>
    void forward(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale = 1) const noexcept {
        assert(valid(in.columns(), out.columns(), coefficients));
        plan_->forward(in, coefficients, out, scratch, scale);
    }

    /// The n rows of the DCT-III of rows [0, coefficients) of `in`, times scale. Both have the same 1 to
    /// block_columns columns; 1 <= coefficients <= n.
    template <RowSource<T> In, RowSink<T> Out>
    void inverse(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale = 1) const noexcept {
        assert(valid(in.columns(), out.columns(), coefficients));
        plan_->inverse(in, coefficients, out, scratch, scale);
    }

    /// A whole matrix [n, columns] to its first `out.rows` coefficients. Throws Error if shapes do not
    /// fit or memory is missing.
    void forward(MatrixView<const T> in, MatrixView<T> out, Workspace& workspace) const {
        require(in.rows == size_, "in.rows", in.rows, "must be the plan's size");
        require(1 <= out.rows && out.rows <= size_, "out.rows", out.rows, "must be 1 to the plan's size");
        for_each_block(in, out, workspace, [&](const auto& from, const auto& to, std::byte* scratch) {
            forward(from, out.rows, to, scratch);
        });
    }

    /// `in.rows` coefficients [in.rows, columns] to a whole matrix [n, columns]. Throws Error if shapes
    /// do not fit or memory is missing.
    void inverse(MatrixView<const T> in, MatrixView<T> out, Workspace& workspace) const {
        require(1 <= in.rows && in.rows <= size_, "in.rows", in.rows, "must be 1 to the plan's size");
        require(out.rows == size_, "out.rows", out.rows, "must be the plan's size");
        for_each_block(in, out, workspace, [&](const auto& from, const auto& to, std::byte* scratch) {
            inverse(from, in.rows, to, scratch);
        });
    }

private:
    static std::shared_ptr<const Plan> make(Index n) {
        require(n >= 1, "n", n, "must be at least 1");
        return std::make_shared<const Plan>(n);
    }

    bool valid(Index in_columns, Index out_columns, Index coefficients) const {
        return 1 <= in_columns && in_columns <= block_columns && in_columns == out_columns && 1 <= coefficients &&
               coefficients <= size_;
    }

    template <class F>
    void for_each_block(const MatrixView<const T>& in, const MatrixView<T>& out, Workspace& workspace, F&& f) const {
        require(in.columns >= 0, "in.columns", in.columns, "must not be negative");
        require(out.columns == in.columns, "out.columns", out.columns, "must equal in.columns");
        if (in.columns == 0) return;
        require(in.data != nullptr, "in.data", 0, "must not be null");
        require(out.data != nullptr, "out.data", 0, "must not be null");
        std::byte* const scratch = workspace.reserve(1, scratch_bytes());
        for (Index first = 0; first < in.columns; first += block_columns) {
            const Index count = std::min(block_columns, in.columns - first);
            f(MatrixRows<const T, block_columns>(in.middle_columns(first, count)),
              MatrixRows<T, block_columns>(out.middle_columns(first, count)), scratch);
        }
    }

    std::shared_ptr<const Plan> plan_;
    Index size_;
};

}  // namespace freqkv::inline FREQKV_ISA
