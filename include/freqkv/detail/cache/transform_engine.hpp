// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/detail/cache/compression_scratch.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/detail/cache/plan_cache.hpp"
#include "freqkv/detail/cache/rotated_columns.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy/codec.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What ListCompressor does under a codec that maps columns: the commit takes blocks of columns through the plan of
// their span. SelectionEngine has the same members.
template <class T, TransformCodec<Arithmetic<T>> Codec>
class TransformEngine {
public:
    using C = Arithmetic<T>;
    using Scratch = CompressionScratch<C>;

    static constexpr Index indices = 0;

    void make_plans(const Codec& codec, const SpanList& spans) {
        for (const Span& span : spans) plans_.make(codec, span.length, span.keep);
    }

    // How many entries the codec keeps, where it depends on the data; and the plans. Scratch for a plan, for each
    // worker. May throw.
    template <Executor E>
    Index begin(const Codec& codec, std::span<DueList<T>> lists, const CompressionSettings<T>& settings,
                const E& executor) {
        if constexpr (requires(const SpanReader<T>& span) { codec.kept(span, Index{}); }) {
            for_each_span(lists, executor, [&](DueList<T>& list, Index, Span& span, Index) {
                const Index kept = codec.kept(reader(list, settings, span.begin, span.length), span.keep);
                require(kept >= 1 && kept <= span.keep, "number of entries kept by the codec", kept,
                        "must be within 1 and what the schedule allows");
                span.keep = kept;
            });
        }
        Index most_bytes = 0;
        plans_.drop_if_many();
        for (const DueList<T>& list : lists) {
            for (const Span& span : list.spans) {
                const auto& plan = plans_.make(codec, span.length, span.keep);
                most_bytes = std::max<Index>(most_bytes, plan.scratch_bytes());
            }
        }
        return most_bytes;
    }

    // Blocks of columns of a span of this list, each of which has an energy; those of keys come first.
    static Index key_tasks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        return blocks_of(list, settings).keys();
    }
    static Index tasks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        return blocks_of(list, settings).total();
    }

    template <Executor E>
    void choose(const Codec&, std::span<DueList<T>>, const CompressionSettings<T>&, const Scratch&, const E&) const {}

    // Each row of a result goes to the middle of its tokens.
    static void set_new_positions(std::span<const DueList<T>> lists, const Scratch& scratch) {
        for (std::size_t l = 0; l < lists.size(); ++l) {
            const DueList<T>& list = lists[l];
            for (Index s = 0; s < list.spans.size(); ++s) {
                const Span& span = list.spans[s];
                const Index first = span.begin - freed_before(list, s);
                for (Index i = 0; i < span.keep; ++i) {
                    scratch.set_new_position(static_cast<Index>(l), first + i,
                                             middle_of(range_of_row(list.ranges, span, i)));
                }
            }
        }
    }

    // The first part of the commit: each span's result, rotated for where it will go, stands at the span's beginning.
    template <Executor E>
    void apply(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
               const E& executor) const noexcept {
        for_each_block(lists, scratch, executor, [&](Index l, Index s, Index block, Index worker) {
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            const Span& span = list.spans[s];
            transform(list, settings, s, block, scratch, l, worker,
                      RowsInPlace{span.length, span.keep, scratch.new_angles(l) + span.begin - freed_before(list, s)});
        });
    }

    // Calls f(list, span, block, worker), numbers all, for every block of columns of every span, on all threads.
    template <Executor E, class F>
    static void for_each_block(std::span<DueList<T>> lists, const Scratch& scratch, const E& executor, const F& f) {
        const Index spans = scratch.sizes().spans;
        const Index blocks = scratch.sizes().tasks_per_span;
        executor.for_each(static_cast<Index>(lists.size()) * spans * blocks, [&](Index task, Index worker) {
            const Index l = task / (spans * blocks);
            const Index s = task / blocks % spans;
            if (s < lists[static_cast<std::size_t>(l)].spans.size()) f(l, s, task % blocks, worker);
        });
    }

    // Which rows of a span a plan maps, and how its result is rotated: all of them, to the first ones.
    struct RowsInPlace {
        Index length, keep;
        const C* const* new_angles;  // of each row of the result

        template <class Rows>
        Rows operator()(const Rows& rows) const {
            return rows;
        }
    };

    static constexpr Index width = PlanCache<Codec, C>::Plan::block_columns;

    // How the columns of one list are cut: rotated pairs, then the rest of the key, then the value.
    struct ColumnBlocks {
        Index rotated, plain, value;

        Index keys() const { return rotated + plain; }
        Index total() const { return keys() + value; }
    };

    static Index rotated_columns(const CompressionSettings<T>& settings) {
        return settings.rope == nullptr ? 0 : 2 * settings.rope->pairs();
    }

    static ColumnBlocks blocks_of(const DueList<T>& list, const CompressionSettings<T>& settings) {
        const Index rotated = rotated_columns(settings);
        return {divide_up(rotated, width), divide_up(list.keys.columns - rotated, width),
                divide_up(list.values.columns, width)};
    }

    // One block of columns of one span, of the rows that `place` says (see RowsInPlace).
    template <class Place>
    void transform(const DueList<T>& list, const CompressionSettings<T>& settings, Index s, Index block,
                   const Scratch& scratch, Index l, Index worker, const Place& place) const noexcept {
        const ColumnBlocks blocks = blocks_of(list, settings);
        if (block >= blocks.total()) return;
        const Span& span = list.spans[s];
        const auto& plan = *plans_.find(place.length, place.keep);
        std::byte* const bytes = scratch.codec_bytes_of(worker);
        Energy* const energy = settings.observer.call == nullptr ? nullptr : scratch.energies_of(l, s) + block;
        if (block < blocks.rotated) {
            const Index first = block * (width / 2);
            const Index pairs = std::min(width / 2, settings.rope->pairs() - first);
            const RotatedColumns<T, width> columns(list.keys.middle_rows(span.begin, span.length), *settings.rope,
                                                   first, pairs, scratch.old_angles(l) + span.begin, place.new_angles);
            plan.forward(place(columns), place(columns), bytes, energy);
            return;
        }
        const bool is_key = block < blocks.keys();
        const Index first =
            is_key ? rotated_columns(settings) + (block - blocks.rotated) * width : (block - blocks.keys()) * width;
        const MatrixView<T> rows = (is_key ? list.keys : list.values).middle_rows(span.begin, span.length);
        const MatrixRows<T, width> columns(rows.middle_columns(first, std::min(width, rows.columns - first)));
        plan.forward(place(columns), place(columns), bytes, energy);
    }

    // Makes a plan unless there is one; bytes of its scratch.
    Index make_plan(const Codec& codec, Index length, Index keep) {
        return plans_.make(codec, length, keep).scratch_bytes();
    }
    void drop_if_many() { plans_.drop_if_many(); }

    // One that has been made.
    const PlanOf<Codec, C>& plan(Index length, Index keep) const { return *plans_.find(length, keep); }

    // Entries freed by the spans before span s.
    static Index freed_before(const DueList<T>& list, Index s) {
        Index freed = 0;
        for (Index i = 0; i < s; ++i) freed += list.spans[i].length - list.spans[i].keep;
        return freed;
    }

private:
    PlanCache<Codec, C> plans_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
