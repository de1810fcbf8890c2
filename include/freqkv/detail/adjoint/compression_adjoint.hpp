// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "freqkv/adjoint/differentiable_codec.hpp"
#include "freqkv/config.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/detail/adjoint/rope_angles.hpp"
#include "freqkv/detail/cache/close_up.hpp"
#include "freqkv/detail/cache/plan_cache.hpp"
#include "freqkv/detail/cache/rotated_columns.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

/// One compression of one KV head's list, as its adjoint has to know it.
struct CompressionMap {
    /// What a transform compressed, as the list was before it; `keep` is what was kept.
    std::span<const Span> spans{};
    /// After a selection, for each entry that remains: which it was before. Ascending.
    std::span<const Index> sources{};
};

/// Of keys at the positions of the text: what Rope::angles() gives for each entry's, before and after a compression.
/// None where entry i is at position i.
template <class C>
struct TextAngles {
    const C* const* before = nullptr;
    const C* const* after = nullptr;
};

/// The adjoint of one compression of a list of keys or values: from the gradient with respect to the entries
/// after it to the gradient with respect to those before it. What the compression moves as it is, the adjoint
/// moves back; what it drops has gradient 0; what it transforms goes through the adjoint of the codec's plan.
///
/// C is float or double. Const after make_plans(), for any number of threads at once, each with its own scratch.
template <class C, DifferentiableCodec<C> Codec>
class CompressionAdjoint {
    static constexpr bool selects = SelectionCodec<Codec, C>;

    // Selections need no plans.
    template <bool Selects, class K>
    struct PlansOf {
        using type = PlanCache<K, C>;
    };
    template <class K>
    struct PlansOf<true, K> {
        struct type {};
    };

public:
    explicit CompressionAdjoint(Codec codec) : codec_(std::move(codec)) {}

    /// Makes the plans for `spans`; to be called for every compression before its adjoint is asked for. May
    /// allocate, and throw what the codec throws.
    void make_plans(std::span<const Span> spans) {
        if constexpr (!selects) {
            for (const Span& span : spans) {
                const auto& plan = plans_.make(codec_, span.length, span.keep);
                scratch_bytes_ = std::max<Index>(scratch_bytes_, plan.scratch_bytes());
            }
        }
    }

    /// Forgets all plans if there are very many, which happens where the codec's data say how much is kept.
    void drop_if_many() {
        if constexpr (!selects) plans_.drop_if_many();
    }

    /// Scratch memory of one call, aligned to AlignedBuffer<std::byte>::alignment.
    Index scratch_bytes() const { return scratch_bytes_; }

    /// Keys that are stored rotated at their index, or at the positions of `text`: after [entries after, key_dim] to
    /// before [entries before, key_dim], which must not overlap. `angles` has to cover the indices of both, and 0.
    void keys(const CompressionMap& map, const RopeAngles<C>& angles, MatrixView<const C> after, MatrixView<C> before,
              std::byte* scratch, const TextAngles<C>& text = {}) const noexcept {
        const Rope<C>& rope = angles.rope();
        const bool of_text = text.before != nullptr;
        const C* const* const angles_before = of_text ? text.before : angles.data();
        const C* const* const angles_after = of_text ? text.after : angles.data();
        // The compression turned what it moved by the difference of its positions; this turns it back. In the text
        // nothing moves, and a turn by the angles of 0 is exact.
        const auto move = [&](Index to, Index source) {
            rope.turn(after.row(to), after.column_stride, before.row(source), before.column_stride,
                      angles[of_text ? 0 : source - to]);
        };
        const auto transform = [&](const auto& plan, const Span& span, Index to) {
            constexpr Index width = std::remove_cvref_t<decltype(plan)>::block_columns;
            using Columns = RotatedColumns<C, width>;
            const MatrixView<C> in = as_source(after.middle_rows(to, span.keep));
            const MatrixView<C> out = before.middle_rows(span.begin, span.length);
            const C* const* const in_angles = angles_after + to;
            const C* const* const out_angles = angles_before + span.begin;
            for (Index pair = 0; pair < rope.pairs(); pair += width / 2) {
                const Index count = std::min(width / 2, rope.pairs() - pair);
                plan.adjoint(Columns(in, rope, pair, count, in_angles, in_angles),
                             Columns(out, rope, pair, count, out_angles, out_angles), scratch);
            }
            const Index rotated = 2 * rope.pairs();
            transform_columns(plan, in.middle_columns(rotated, in.columns - rotated),
                              out.middle_columns(rotated, out.columns - rotated), scratch);
        };
        apply(map, after.rows, before, move, transform);
    }

    /// Values, or keys that are stored un-rotated: after [entries after, dim] to before [entries before, dim],
    /// which must not overlap.
    void values(const CompressionMap& map, MatrixView<const C> after, MatrixView<C> before,
                std::byte* scratch) const noexcept {
        const auto move = [&](Index to, Index source) {
            for (Index d = 0; d < after.columns; ++d) before(source, d) = after(to, d);
        };
        const auto transform = [&](const auto& plan, const Span& span, Index to) {
            transform_columns(plan, as_source(after.middle_rows(to, span.keep)),
                              before.middle_rows(span.begin, span.length), scratch);
        };
        apply(map, after.rows, before, move, transform);
    }

private:
    // Calls move(to, source) for entries that were kept as they are and transform(plan, span, to) for spans whose
    // result begins at entry `to`. What was dropped becomes 0.
    template <class Move, class Transform>
    void apply(const CompressionMap& map, [[maybe_unused]] Index entries_after, MatrixView<C> before, Move&& move,
               [[maybe_unused]] Transform&& transform) const noexcept {
        if constexpr (selects) {
            Index source = 0;
            const auto drop_until = [&](Index end) {
                for (; source < end; ++source) {
                    for (Index d = 0; d < before.columns; ++d) before(source, d) = C{0};
                }
            };
            for (Index to = 0; to < entries_after; ++to) {
                drop_until(map.sources[static_cast<std::size_t>(to)]);
                move(to, source++);
            }
            drop_until(before.rows);
        } else {
            const auto stay = [&](Index from, Index at, Index count) {
                for (Index i = 0; i < count; ++i) move(at + i, from + i);
            };
            const auto remain = [&](Index s, Index at) {
                const Span& span = map.spans[static_cast<std::size_t>(s)];
                transform(*plans_.find(span.length, span.keep), span, at);
            };
            close_up(map.spans, before.rows, stay, remain);
        }
    }

    // What is only read, as what a compression reads: with the same types of rows as in forward(), the transforms
    // are compiled once for both directions.
    static MatrixView<C> as_source(const MatrixView<const C>& rows) {
        return {const_cast<C*>(rows.data), rows.rows, rows.columns, rows.row_stride, rows.column_stride};
    }

    template <class Plan>
    static void transform_columns(const Plan& plan, MatrixView<C> in, MatrixView<C> out, std::byte* scratch) noexcept {
        constexpr Index width = Plan::block_columns;
        for (Index first = 0; first < in.columns; first += width) {
            const Index count = std::min(width, in.columns - first);
            plan.adjoint(MatrixRows<C, width>(in.middle_columns(first, count)),
                         MatrixRows<C, width>(out.middle_columns(first, count)), scratch);
        }
    }

    Codec codec_;
    typename PlansOf<selects, Codec>::type plans_;
    Index scratch_bytes_ = 0;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
