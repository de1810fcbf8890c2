// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::inline FREQKV_ISA {

/// What a transform of the whole span would lose of an entry: the energy of its row in x - (n / k) A^T A x, where A is
/// the plan's map from n rows to k. For a low-pass that is x without its k lowest frequencies. Keys (un-rotated) and
/// values count as parts of the energy that they have in the span. For KeepSome, with a plan that has an adjoint() and
/// says how many rows are kept(), as FrequencyCompressor does.
struct ResidualEnergy {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span) const {
        using C = Arithmetic<T>;
        const Index dim = std::max(span.key_dim(), span.value_dim());
        return 2 * WorkspaceCursor::size<C>(checked_product("rows of a span", span.size(), dim)) +
               WorkspaceCursor::size<C>(span.key_dim());
    }

    /// The plan's forward() and adjoint() over keys and values. `scratch` holds the plan's behind what scratch_bytes()
    /// asks for.
    template <class T, class Plan>
        requires requires(const Plan& plan, const detail::RowArchetype<Arithmetic<T>>& rows, std::byte* bytes) {
            plan.adjoint(rows, rows, bytes);
            plan.kept();
        }
    void score(const SpanReader<T>& span, const Plan& plan, Arithmetic<T>* scores, std::byte* scratch) const {
        using C = Arithmetic<T>;
        constexpr Index width = Plan::block_columns;
        const Index n = span.size();
        const Index most = std::max(span.key_dim(), span.value_dim());
        WorkspaceCursor cursor(scratch);
        C* const rows = cursor.take<C>(n * most);
        C* const shown = cursor.take<C>(n * most);  // A x, then A^T A x
        C* const angles = cursor.take<C>(span.key_dim());
        std::byte* const plan_scratch = cursor.take<std::byte>(0);

        std::fill_n(scores, n, C{0});
        const auto add = [&](Index dim) {
            for (Index first = 0; first < dim; first += width) {
                const Index count = std::min(width, dim - first);
                const MatrixRows<C, width> result({shown + first, n, count, dim, 1});
                plan.forward(MatrixRows<const C, width>({rows + first, n, count, dim, 1}), result, plan_scratch,
                             nullptr);
                plan.adjoint(result, result, plan_scratch);
            }
            const C share = static_cast<C>(n) / static_cast<C>(plan.kept());
            C total = 0;
            for (Index i = 0; i < n * dim; ++i) total += rows[i] * rows[i];
            for (Index i = 0; i < n && total > 0; ++i) {
                C lost = 0;
                for (Index d = i * dim; d < (i + 1) * dim; ++d) {
                    const C difference = rows[d] - share * shown[d];
                    lost += difference * difference;
                }
                scores[i] += lost / total;
            }
        };
        for (Index i = 0; i < n; ++i) span.load_key(i, rows + i * span.key_dim(), angles);
        add(span.key_dim());
        for (Index i = 0; i < n; ++i) span.load_value(i, rows + i * span.value_dim());
        add(span.value_dim());
    }
};

}  // namespace freqkv::inline FREQKV_ISA
