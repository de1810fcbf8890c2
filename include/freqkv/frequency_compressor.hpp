// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/energy.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The sum of squares of `count` rows of at most Lanes columns; a sum for each column, so that it vectorises.
template <class T, Index Lanes, class In>
FREQKV_OUT_OF_LINE double sum_of_squares(const In& in, Index count) {
    alignas(64) double sums[Lanes] = {};
    alignas(64) T values[Lanes] = {};
    for (Index row = 0; row < count; ++row) {
        in.load(row, values);
        for (Index c = 0; c < Lanes; ++c) sums[c] += static_cast<double>(values[c]) * static_cast<double>(values[c]);
    }
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
}

}  // namespace freqkv::detail::inline FREQKV_ISA

namespace freqkv::inline FREQKV_ISA {

/// One compression of the paper (equations 6 to 8): n rows become `kept`,
///
///     Z = sqrt(kept / n) IDCT_kept(DCT_n(X)[0..kept)),
///
/// each column by itself, in float or double. Linear; gain exactly 1 on a constant column; spectral norm
/// sqrt(kept / n); kept = n is the identity up to rounding. Transforms, truncation and rescaling are
/// fused, one block of columns at a time. Const after construction, cheap to copy (copies share the
/// plans), for any number of threads at once; aliasing and precision are those of dct_plan.hpp.
template <class T, DctBackend<T> Backend>
class FrequencyCompressor {
    using Plan = DctPlan<T, Backend>;

public:
    /// Throws Error unless 1 <= kept <= n.
    [[gnu::cold]] FrequencyCompressor(Index n, Index kept) : long_(n), short_(short_plan(long_, kept)) {
        const Index plans = std::max(long_.scratch_bytes(), short_.scratch_bytes());
        coefficient_bytes_ = checked_product("compressor scratch size", kept, block_columns, sizeof(T));
        coefficient_bytes_ = Workspace::stride(coefficient_bytes_);
        scratch_bytes_ = coefficient_bytes_ + plans;
        scale_ = static_cast<T>(std::sqrt(static_cast<double>(kept) / static_cast<double>(n)));
    }

    /// Rows before.
    Index size() const { return long_.size(); }
    /// Rows after.
    Index kept() const { return short_.size(); }

    /// Columns of one block at most; always even.
    static constexpr Index block_columns = Plan::block_columns;

    /// Scratch memory that one block needs, aligned to AlignedBuffer<std::byte>::alignment.
    Index scratch_bytes() const { return scratch_bytes_; }

    /// One block of 1 to block_columns columns: n rows of `in` to `kept` rows of `out`. All of `in` is
    /// loaded before the first row is stored. If `energy` is not null, adds to it the sum of squares
    /// of what was loaded and the part of it in the frequencies from `kept` on. That part is a
    /// difference (Parseval), with an error of T's rounding relative to the total, and 0 for kept = n.
    template <RowSource<T> In, RowSink<T> Out>
    void forward(const In& in, const Out& out, std::byte* scratch, Energy* energy = nullptr) const noexcept {
        const auto coefficients = coefficient_rows(in.columns(), scratch);
        std::byte* const rest = scratch + coefficient_bytes_;
        const double total = energy == nullptr ? 0 : detail::sum_of_squares<T, block_columns>(in, size());
        long_.forward(in, kept(), coefficients, rest);
        if (energy != nullptr) {
            energy->total += total;
            if (kept() < size()) {
                const double left = detail::sum_of_squares<T, block_columns>(coefficients, kept());
                energy->discarded += std::max(0.0, total - left);
            }
        }
        short_.inverse(coefficients, kept(), out, rest, scale_);
    }

    /// The adjoint of one block, sqrt(kept / n) IDCT_n of DCT_kept(Z) followed by zeros: reads `kept`
    /// rows, writes n. All of `in` is loaded before the first row is stored.
    template <RowSource<T> In, RowSink<T> Out>
    void adjoint(const In& in, const Out& out, std::byte* scratch) const noexcept {
        const auto coefficients = coefficient_rows(in.columns(), scratch);
        std::byte* const rest = scratch + coefficient_bytes_;
        short_.forward(in, kept(), coefficients, rest);
        long_.inverse(coefficients, kept(), out, rest, scale_);
    }

    /// Every head of `in` [heads, n, dim] to `out` [heads, kept, dim]. U is T or a 16-bit type that is
    /// computed with as T. `energies`, if not empty, holds one element per head, which is added to.
    /// Heads and blocks of columns are the executor's tasks; who runs them does not change a result.
    /// Throws Error, before anything is written, if shapes do not fit or memory is missing.
    template <class U, Executor E = SerialExecutor>
        requires(std::same_as<Arithmetic<U>, T> && !std::is_const_v<U>)
    void forward(KVView<const std::type_identity_t<U>> in, KVView<U> out, Workspace& workspace,
                 std::span<Energy> energies = {}, const E& executor = {}) const {
        check(in, size(), out, kept());
        if (!energies.empty() && static_cast<Index>(energies.size()) != in.heads) {
            refuse("energies.size()", std::to_string(energies.size()),
                   "must be 0 or in.heads, which is " + std::to_string(in.heads));
        }
        // The blocks' energies are kept apart and added in order, so that threads do not change the sum.
        const Index count = tasks(in);
        const Index part_bytes = energies.empty() ? 0 : static_cast<Index>(sizeof(Energy));
        const Index parts_bytes = checked_product("energies of all blocks in bytes", count, part_bytes);
        const Index region = Workspace::stride(scratch_bytes_);
        const Index regions = executor.concurrency() + (parts_bytes + region - 1) / region;
        std::byte* const memory = workspace.reserve(regions, region);
        auto* const parts =
            energies.empty() ? nullptr : reinterpret_cast<Energy*>(memory + executor.concurrency() * region);
        executor.for_each(count, [&](Index task, Index worker) {
            std::byte* const scratch = memory + worker * region;
            Energy* const part = parts == nullptr ? nullptr : std::construct_at(parts + task);
            forward(MatrixRows<const U, block_columns>(block(in, task)), MatrixRows<U, block_columns>(block(out, task)),
                    scratch, part);
        });
        for (Index task = 0; parts != nullptr && task < count; ++task) {
            energies[static_cast<std::size_t>(task / blocks(in.head_dim))] += parts[task];
        }
    }

    /// The adjoint of every head, `in` [heads, kept, dim] to `out` [heads, n, dim]; otherwise as forward.
    template <class U, Executor E = SerialExecutor>
        requires(std::same_as<Arithmetic<U>, T> && !std::is_const_v<U>)
    void adjoint(KVView<const std::type_identity_t<U>> in, KVView<U> out, Workspace& workspace,
                 const E& executor = {}) const {
        check(in, kept(), out, size());
        std::byte* const memory = workspace.reserve(executor.concurrency(), scratch_bytes_);
        executor.for_each(tasks(in), [&](Index task, Index worker) {
            std::byte* const scratch = memory + worker * Workspace::stride(scratch_bytes_);
            adjoint(MatrixRows<const U, block_columns>(block(in, task)), MatrixRows<U, block_columns>(block(out, task)),
                    scratch);
        });
    }

private:
    static Plan short_plan(const Plan& long_plan, Index kept) {
        if (kept < 1 || kept > long_plan.size()) {
            refuse("kept", std::to_string(kept), "must be 1 to n, which is " + std::to_string(long_plan.size()));
        }
        return kept == long_plan.size() ? long_plan : Plan(kept);
    }

    // The coefficients between the two transforms, [kept][columns] at the beginning of the scratch.
    MatrixRows<T, block_columns> coefficient_rows(Index columns, std::byte* scratch) const {
        return MatrixRows<T, block_columns>({reinterpret_cast<T*>(scratch), kept(), columns, block_columns, 1});
    }

    template <class U>
    static void check(const KVView<const U>& in, Index in_tokens, const KVView<U>& out, Index out_tokens) {
        require(in.heads >= 0, "in.heads", in.heads, "must not be negative");
        require(in.head_dim >= 0, "in.head_dim", in.head_dim, "must not be negative");
        const auto must_equal = [](const char* name, Index value, Index wanted) {
            if (value != wanted) refuse(name, std::to_string(value), "must be " + std::to_string(wanted));
        };
        must_equal("in.tokens", in.tokens, in_tokens);
        must_equal("out.tokens", out.tokens, out_tokens);
        must_equal("out.heads", out.heads, in.heads);
        must_equal("out.head_dim", out.head_dim, in.head_dim);
        if (in.heads == 0 || in.head_dim == 0) return;
        require(in.data != nullptr, "in.data", 0, "must not be null");
        require(out.data != nullptr, "out.data", 0, "must not be null");
    }

    static constexpr Index blocks(Index columns) { return (columns + block_columns - 1) / block_columns; }

    template <class U>
    static Index tasks(const KVView<U>& view) {
        return checked_product("in.heads * in.head_dim", view.heads, blocks(view.head_dim));
    }

    // The block of columns of one head that is task number `task`.
    template <class U>
    static MatrixView<U> block(const KVView<U>& view, Index task) {
        const Index first = task % blocks(view.head_dim) * block_columns;
        const Index count = std::min(block_columns, view.head_dim - first);
        return view.head(task / blocks(view.head_dim)).middle_columns(first, count);
    }

    Plan long_;
    Plan short_;
    Index coefficient_bytes_;
    Index scratch_bytes_;
    T scale_;
};

}  // namespace freqkv::inline FREQKV_ISA
