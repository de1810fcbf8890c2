// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/compression_scratch.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/detail/cache/selection_engine.hpp"
#include "freqkv/detail/cache/transform_engine.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy/codec.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What ListCompressor does under a codec that keeps some entries and transforms the others. Before the commit it has
// the exact entries chosen and writes down, for each span, where everything will go; in the commit the others go
// through their plan, each row of its result into the row of the entry in whose place it stands. As every row then lies
// at or behind the place where it will go, closing up moves exact and transformed ones alike. SelectionEngine has the
// same members.
template <class T, HybridCodec<T> Codec>
class HybridEngine {
public:
    using C = Arithmetic<T>;
    using Scratch = CompressionScratch<C>;

    static constexpr Index indices = 3;

    void make_plans(const Codec& codec, const SpanList& spans) {
        for (const Span& span : spans) (void)make_plans_of(codec, span);
    }

    // Scratch for the codec or a plan, and for the angles of a span's rows. May throw.
    template <Executor E>
    Index begin(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const E& /*executor*/) {
        transforms_.drop_if_many();
        Index longest_span = 0;
        for (const DueList<T>& list : lists) {
            for (const Span& span : list.spans) {
                longest_span = std::max(longest_span, span.length);
                plan_bytes_ = Workspace::stride(std::max(plan_bytes_, make_plans_of(codec, span)));
            }
        }
        Index chooser_bytes = Selection::scratch_bytes(codec, lists, settings);
        if constexpr (by_plan) chooser_bytes = Workspace::stride(chooser_bytes) + plan_bytes_;
        return std::max(chooser_bytes, plan_bytes_ + longest_span * static_cast<Index>(sizeof(const C*)));
    }

    static Index key_tasks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        return Transform::key_tasks(list, settings);
    }
    static Index tasks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        return Transform::tasks(list, settings);
    }

    // For each span, to arrays of scratch.chosen_of() from its begin on, all relative to it: [0] what becomes of it, in
    // order, an exact entry as its index and a transformed one as ~(the index in whose place it stands); [1] the
    // entries that are transformed, in order; [2] where each row of the result stands. May throw.
    template <Executor E>
    void choose(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const Scratch& scratch, const E& executor) const {
        for_each_span(lists, executor, [&](DueList<T>& list, Index l, Span& span, Index worker) {
            Index* const items = scratch.chosen_of(l) + span.begin;
            Index* const others = scratch.chosen_of(l, 1) + span.begin;
            Index* const places = scratch.chosen_of(l, 2) + span.begin;
            const Index exact = exact_of(codec, span);
            if (exact > 0) {
                const SpanReader<T> entries = reader(list, settings, span.begin, span.length);
                const Index count = select(codec, entries, span.keep, exact, items, scratch.codec_bytes_of(worker));
                require(count == exact, "number of entries chosen by the codec", count, "must be what exact() says");
                Selection::check_chosen(items, exact, span);
            }
            for (Index i = 0, chosen = 0, other = 0; i < span.length; ++i) {
                if (chosen < exact && items[chosen] == i) {
                    ++chosen;
                } else {
                    others[other++] = i;
                }
            }
            const Index rest = span.length - exact;
            const Index rows = span.keep - exact;
            for (Index k = 0; k < rows; ++k) {
                places[k] = others[(part_begin(k, rest, rows) + part_begin(k + 1, rest, rows)) / 2];
            }
            // Both ascend: merged from behind, for which there is room.
            for (Index item = span.keep - 1, e = exact - 1, k = rows - 1; item >= 0; --item) {
                const bool is_exact = k < 0 || (e >= 0 && items[e] > places[k]);
                items[item] = is_exact ? items[e--] : ~places[k--];
            }
        });
    }

    // Each row that is computed goes to the middle of its tokens.
    static void set_new_positions(std::span<const DueList<T>> lists, const Scratch& scratch) {
        for (std::size_t l = 0; l < lists.size(); ++l) {
            const DueList<T>& list = lists[l];
            for (Index s = 0; s < list.spans.size(); ++s) {
                const Span& span = list.spans[s];
                const Parts parts(span, scratch, static_cast<Index>(l));
                const Index first = span.begin - Transform::freed_before(list, s);
                for (Index item = 0, k = 0; item < span.keep; ++item) {
                    if (parts.items[item] >= 0) continue;
                    scratch.set_new_position(static_cast<Index>(l), first + item,
                                             middle_of(parts.range(list.ranges, span, k++)));
                }
            }
        }
    }

    // The first part of the commit.
    template <Executor E>
    void apply(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
               const E& executor) const noexcept {
        Transform::for_each_block(lists, scratch, executor, [&](Index l, Index s, Index block, Index worker) {
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            const Span& span = list.spans[s];
            const Index* const items = scratch.chosen_of(l) + span.begin;
            // Where a row stands, the angles for where it will go.
            auto* const angles = reinterpret_cast<const C**>(scratch.codec_bytes_of(worker) + plan_bytes_);
            const Index first = span.begin - Transform::freed_before(list, s);
            Index rows = 0;
            for (Index item = 0; item < span.keep; ++item) {
                if (items[item] >= 0) continue;
                if (settings.rope != nullptr) angles[~items[item]] = scratch.new_angles(l)[first + item];
                ++rows;
            }
            const Index exact = span.keep - rows;
            transforms_.transform(list, settings, s, block, scratch, l, worker,
                                  RowsOfOthers{span.length - exact, rows, angles, scratch.chosen_of(l, 1) + span.begin,
                                               scratch.chosen_of(l, 2) + span.begin});
        });
        executor.for_each(static_cast<Index>(lists.size()), [&](Index l, Index) {
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            for (Index s = 0; s < list.spans.size(); ++s) {
                gather(list, list.spans[s], scratch, l);
                if (settings.observer.call != nullptr) add_exact_energies(list, settings, s, scratch, l);
            }
        });
    }

private:
    using Selection = SelectionEngine<T, Codec>;
    using Transform = TransformEngine<T, Codec>;

    // As TransformEngine::RowsInPlace, of some rows, to where they will stand.
    struct RowsOfOthers {
        Index length, keep;
        const C* const* new_angles;
        const Index* from;
        const Index* to;

        template <class Rows>
        struct Mapped {
            Rows rows;
            const Index* from;
            const Index* to;

            Index columns() const { return rows.columns(); }
            void load(Index row, C* values) const { rows.load(from[row], values); }
            void store(Index row, const C* values) const { rows.store(to[row], values); }
        };
        template <class Rows>
        Mapped<Rows> operator()(const Rows& rows) const {
            return {rows, from, to};
        }
    };

    static Index exact_of(const Codec& codec, const Span& span) {
        const Index exact = codec.exact(span.length, span.keep);
        require(exact >= 0 && exact < span.keep, "exact() of the codec", exact,
                "must be within 0 and what the schedule allows - 1");
        return exact;
    }

    static constexpr bool by_plan = SelectsByPlan<Codec, T>;

    // Bytes of their scratch.
    Index make_plans_of(const Codec& codec, const Span& span) {
        const Index exact = exact_of(codec, span);
        Index bytes = transforms_.make_plan(codec, span.length - exact, span.keep - exact);
        if constexpr (by_plan) bytes = std::max(bytes, transforms_.make_plan(codec, span.length, span.keep - exact));
        return bytes;
    }

    Index select(const Codec& codec, const SpanReader<T>& span, Index keep, Index exact, Index* chosen,
                 std::byte* bytes) const {
        if constexpr (by_plan) {
            return codec.select(span, transforms_.plan(span.size(), keep - exact), exact, chosen, bytes);
        } else {
            return codec.select(span, exact, chosen, bytes);
        }
    }

    // Of `rest` entries row k of `rows` stands for those from here to part_begin(k + 1).
    static constexpr Index part_begin(Index k, Index rest, Index rows) { return k * rest / rows; }

    // What choose() wrote down of a span.
    struct Parts {
        const Index* items;
        const Index* others;
        const Index* places;
        Index rows;  // that are computed
        Index rest;  // entries that they are computed of

        Parts(const Span& span, const Scratch& scratch, Index l)
            : items(scratch.chosen_of(l) + span.begin),
              others(scratch.chosen_of(l, 1) + span.begin),
              places(scratch.chosen_of(l, 2) + span.begin),
              rows(std::count_if(items, items + span.keep, [](Index item) { return item < 0; })),
              rest(span.length - (span.keep - rows)) {}

        // What row k stands for.
        TokenRange range(const TokenRange* ranges, const Span& span, Index k) const {
            return {ranges[span.begin + others[part_begin(k, rest, rows)]].begin,
                    ranges[span.begin + others[part_begin(k + 1, rest, rows) - 1]].end};
        }
    };

    // What the entries of each part stand for, and what is summed of them, to where their row stands.
    static void gather(const DueList<T>& list, const Span& span, const Scratch& scratch, Index l) {
        const Parts parts(span, scratch, l);
        for (Index k = 0; k < parts.rows; ++k) {
            const Index place = span.begin + parts.places[k];
            if (list.ranges != nullptr) list.ranges[place] = parts.range(list.ranges, span, k);
            for (C* const sums : {list.mass, list.weights}) {
                if (sums == nullptr) continue;
                C sum = 0;
                for (Index i = part_begin(k, parts.rest, parts.rows); i < part_begin(k + 1, parts.rest, parts.rows);
                     ++i) {
                    sum += sums[span.begin + parts.others[i]];
                }
                sums[place] = sum;
            }
        }
    }

    // A plan reports the energy of what it maps; of the exact entries nothing is lost.
    static void add_exact_energies(const DueList<T>& list, const CompressionSettings<T>& settings, Index s,
                                   const Scratch& scratch, Index l) {
        const Span& span = list.spans[s];
        const Index* const items = scratch.chosen_of(l) + span.begin;
        Energy* const energies = scratch.energies_of(l, s);
        for (Index item = 0; item < span.keep; ++item) {
            if (items[item] < 0) continue;
            energies[0].total += row_energy(list.keys, span.begin + items[item]);
            energies[key_tasks(list, settings)].total += row_energy(list.values, span.begin + items[item]);
        }
    }

    Transform transforms_;
    Index plan_bytes_ = 0;  // whole cache lines
};

}  // namespace freqkv::detail::inline FREQKV_ISA
