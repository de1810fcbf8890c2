// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/compression_scratch.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/detail/cache/plan_cache.hpp"
#include "freqkv/detail/cache/rotated_columns.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

// One compression of full lists of keys and values under a policy: what the cache and the in-place call
// share. First everything that can fail (planning, allocation, the codec's choice, plans, scratch), then
// a commit that cannot.
namespace freqkv::detail {

template <class T, class P>
class ListCompressor {
    using C = Arithmetic<T>;
    using Codec = std::remove_cvref_t<decltype(std::declval<P&>().codec)>;
    static constexpr bool selects = SelectionCodec<Codec, T>;

    // Selections need no plans.
    template <bool Selects, class K>
    struct PlansOf {
        using type = PlanCache<K, C>;
        static constexpr Index block_columns = type::Plan::block_columns;
    };
    template <class K>
    struct PlansOf<true, K> {
        struct type {};
    };

public:
    explicit ListCompressor(P policy) : policy_(std::move(policy)) {}

    const P& policy() const { return policy_; }

    // Throws Error unless the policy can compress a full list of this layout; makes the plans for it.
    void prepare(const CacheLayout& layout) {
        const SpanList spans = policy_.schedule.plan(layout, 0);
        check_spans(spans, layout);
        if constexpr (!selects) {
            for (const Span& span : spans) plans_.make(policy_.codec, span.length, span.keep);
        }
    }

    // Compresses each list; afterwards the first size_after entries of each are the result, rotated at
    // their new indices. Then calls committed(), which must not throw, and only then the observer. If
    // compress() throws before committed(), no list has been changed.
    template <Executor E, class F>
    void compress(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, Workspace& workspace,
                  const E& executor, F&& committed) {
        plan_spans(lists, settings);
        Index codec_bytes = 0;
        if constexpr (selects) {
            codec_bytes = selection_bytes(lists, settings);
        } else {
            codec_bytes = make_plans(lists, settings, executor);
        }
        const Scratch scratch = reserve(lists, settings, workspace, executor.concurrency(), codec_bytes);
        if constexpr (selects) select(lists, settings, scratch, executor);
        commit(lists, settings, scratch, executor);
        committed();
        if (settings.observer.call != nullptr) report(lists, settings, scratch);
    }

private:
    using Scratch = CompressionScratch<C>;

    // How the columns of one list are cut for a transform: rotated pairs, then the rest of the key, then
    // the value.
    struct ColumnBlocks {
        Index rotated, plain, value;

        Index keys() const { return rotated + plain; }
        Index total() const { return keys() + value; }
    };

    static ColumnBlocks column_blocks(const DueList<T>& list, const CompressionSettings<T>& settings) {
        constexpr Index width = PlansOf<selects, Codec>::block_columns;
        const Index rotated = settings.rope == nullptr ? 0 : 2 * settings.rope->pairs();
        return {divide_up(rotated, width), divide_up(list.keys.columns - rotated, width),
                divide_up(list.values.columns, width)};
    }

    SpanReader<T> reader(const DueList<T>& list, const CompressionSettings<T>& settings, Index first,
                         Index count) const {
        return {list.head,
                list.keys.middle_rows(first, count),
                list.values.middle_rows(first, count),
                settings.rope,
                settings.positions,
                first,
                list.keys.rows,
                list.queries};
    }

    void plan_spans(std::span<DueList<T>> lists, const CompressionSettings<T>& settings) {
        const auto layout = [&](const DueList<T>& list) {
            return CacheLayout{list.keys.rows, settings.sinks, settings.recent};
        };
        for (DueList<T>& list : lists) {
            list.spans = policy_.schedule.plan(layout(list), list.compressions);
            check_spans(list.spans, layout(list));
        }
        if constexpr (requires { policy_.allocation; }) {
            due_heads_.clear();
            due_heads_.reserve(lists.size());
            for (DueList<T>& list : lists) {
                due_heads_.push_back({reader(list, settings, 0, list.keys.rows), &list.spans});
            }
            policy_.allocation.allocate(std::span<const DueHead<T>>(due_heads_));
            for (const DueList<T>& list : lists) check_spans(list.spans, layout(list));
        }
    }

    // Calls f(list, span index, worker) for every span, on all threads; f may throw.
    template <Executor E, class F>
    static void for_each_span(std::span<DueList<T>> lists, const E& executor, F&& f) {
        const Index spans = most_spans(lists);
        for_each_catching(executor, static_cast<Index>(lists.size()) * spans, [&](Index task, Index worker) {
            DueList<T>& list = lists[static_cast<std::size_t>(task / spans)];
            if (task % spans < list.spans.size()) f(list, task / spans, task % spans, worker);
        });
    }

    template <Executor E>
    Index make_plans(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const E& executor) {
        if constexpr (requires(const SpanReader<T>& span) { policy_.codec.kept(span, Index{}); }) {
            for_each_span(lists, executor, [&](DueList<T>& list, Index, Index s, Index) {
                Span& span = list.spans[s];
                const Index kept = policy_.codec.kept(reader(list, settings, span.begin, span.length), span.keep);
                require(kept >= 1 && kept <= span.keep, "number of entries kept by the codec", kept,
                        "must be within 1 and what the schedule allows");
                span.keep = kept;
            });
        }
        Index most_bytes = 0;
        plans_.drop_if_many();
        for (const DueList<T>& list : lists) {
            for (const Span& span : list.spans) {
                const auto& plan = plans_.make(policy_.codec, span.length, span.keep);
                most_bytes = std::max<Index>(most_bytes, plan.scratch_bytes());
            }
        }
        return most_bytes;
    }

    Index selection_bytes(std::span<const DueList<T>> lists, const CompressionSettings<T>& settings) const {
        Index most_bytes = 0;
        if constexpr (requires(const SpanReader<T>& span) { policy_.codec.scratch_bytes(span, Index{}); }) {
            for (const DueList<T>& list : lists) {
                for (const Span& span : list.spans) {
                    most_bytes = std::max<Index>(
                        most_bytes,
                        policy_.codec.scratch_bytes(reader(list, settings, span.begin, span.length), span.keep));
                }
            }
        }
        require(most_bytes >= 0, "scratch_bytes of the codec", most_bytes, "must not be negative");
        return most_bytes;
    }

    template <Executor E>
    void select(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
                const E& executor) {
        for_each_span(lists, executor, [&](DueList<T>& list, Index l, Index s, Index worker) {
            Span& span = list.spans[s];
            Index* const chosen = scratch.chosen_of(l) + span.begin;
            const Index count = policy_.codec.select(reader(list, settings, span.begin, span.length), span.keep, chosen,
                                                     scratch.codec_bytes_of(worker));
            require(count >= 1 && count <= span.keep, "number of entries chosen by the codec", count,
                    "must be within 1 and what the schedule allows");
            for (Index i = 0; i < count; ++i) {
                require(chosen[i] < span.length && chosen[i] > (i == 0 ? -1 : chosen[i - 1]),
                        "index chosen by the codec", chosen[i], "must be within the span and ascend");
            }
            span.keep = count;
        });
    }

    static Index most_spans(std::span<const DueList<T>> lists) {
        Index most = 1;
        for (const DueList<T>& list : lists) most = std::max(most, list.spans.size());
        return most;
    }

    Scratch reserve(std::span<const DueList<T>> lists, const CompressionSettings<T>& settings, Workspace& workspace,
                    Index workers, Index codec_bytes) const {
        CompressionSizes sizes;
        sizes.lists = static_cast<Index>(lists.size());
        sizes.spans = most_spans(lists);
        sizes.tasks_per_span = 2;  // keys, values
        for (const DueList<T>& list : lists) {
            sizes.entries = std::max(sizes.entries, list.keys.rows);
            if constexpr (!selects) {
                sizes.tasks_per_span = std::max(sizes.tasks_per_span, column_blocks(list, settings).total());
            }
        }
        sizes.selects = selects;
        sizes.workers = workers;
        sizes.codec_bytes = codec_bytes;
        return Scratch(sizes, settings.rope, settings.positions, workspace);
    }

    template <Executor E>
    void commit(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
                const E& executor) const noexcept {
        for (DueList<T>& list : lists) {
            list.size_after = list.keys.rows;
            for (const Span& span : list.spans) list.size_after -= span.length - span.keep;
        }
        const auto count = static_cast<Index>(lists.size());
        if constexpr (!selects) {
            const Index spans = scratch.sizes().spans;
            const Index blocks = scratch.sizes().tasks_per_span;
            executor.for_each(count * spans * blocks, [&](Index task, Index worker) {
                const Index l = task / (spans * blocks);
                const Index s = task / blocks % spans;
                const Index block = task % blocks;
                const DueList<T>& list = lists[static_cast<std::size_t>(l)];
                if (s < list.spans.size()) transform(list, settings, s, block, scratch, l, worker);
            });
        }
        executor.for_each(count * 2, [&](Index task, Index worker) {
            const Index l = task / 2;
            const Index which = task % 2;
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            const Index* const chosen = selects ? scratch.chosen_of(l) : nullptr;
            if (selects && settings.observer.call != nullptr) {
                for (Index s = 0; s < list.spans.size(); ++s) {
                    scratch.energies_of(l, s)[which] = dropped_energy(which == 0 ? list.keys : list.values,
                                                                      list.spans[s], chosen + list.spans[s].begin);
                }
            }
            if (which == 0) {
                move_keys(list, settings, chosen, scratch.angles_of(worker));
            } else {
                move_values(list, chosen);
                move_ranges(list, chosen);
            }
        });
    }

    // Transforms one block of columns of one span; the result stands at the span's beginning.
    void transform(const DueList<T>& list, const CompressionSettings<T>& settings, Index s, Index block,
                   const Scratch& scratch, Index l, Index worker) const noexcept {
        constexpr Index width = PlansOf<selects, Codec>::block_columns;
        const ColumnBlocks blocks = column_blocks(list, settings);
        if (block >= blocks.total()) return;
        const Span& span = list.spans[s];
        const auto& plan = *plans_.find(span.length, span.keep);
        std::byte* const bytes = scratch.codec_bytes_of(worker);
        Energy* const energy = settings.observer.call == nullptr ? nullptr : scratch.energies_of(l, s) + block;
        if (block < blocks.rotated) {
            const Index first = block * (width / 2);
            const Index pairs = std::min(width / 2, settings.rope->pairs() - first);
            const RotatedColumns<T, width> columns(list.keys.middle_rows(span.begin, span.length), *settings.rope,
                                                   first, pairs, scratch.old_angles() + span.begin,
                                                   scratch.new_angles() + span.begin - freed_before(list, s));
            plan.forward(columns, columns, bytes, energy);
            return;
        }
        const bool is_key = block < blocks.keys();
        const Index rotated = settings.rope == nullptr ? 0 : 2 * settings.rope->pairs();
        const Index first = is_key ? rotated + (block - blocks.rotated) * width : (block - blocks.keys()) * width;
        const MatrixView<T> rows = (is_key ? list.keys : list.values).middle_rows(span.begin, span.length);
        const MatrixRows<T, width> columns(rows.middle_columns(first, std::min(width, rows.columns - first)));
        plan.forward(columns, columns, bytes, energy);
    }

    // Entries freed by the spans before span s.
    static Index freed_before(const DueList<T>& list, Index s) {
        Index freed = 0;
        for (Index i = 0; i < s; ++i) freed += list.spans[i].length - list.spans[i].keep;
        return freed;
    }

    static void report(std::span<const DueList<T>> lists, const CompressionSettings<T>& settings,
                       const Scratch& scratch) {
        for (std::size_t l = 0; l < lists.size(); ++l) {
            const DueList<T>& list = lists[l];
            Index key_tasks = 1;
            Index tasks = 2;
            if constexpr (!selects) {
                key_tasks = column_blocks(list, settings).keys();
                tasks = column_blocks(list, settings).total();
            }
            for (Index s = 0; s < list.spans.size(); ++s) {
                const Span& span = list.spans[s];
                CompressionReport report{
                    settings.layer, list.head, list.compressions, span.begin, span.length, span.keep, {}, {}};
                const Energy* const energies = scratch.energies_of(static_cast<Index>(l), s);
                for (Index task = 0; task < tasks; ++task) {
                    Energy& sum = task < key_tasks ? report.keys : report.values;
                    sum.total += energies[task].total;
                    sum.discarded += energies[task].discarded;
                }
                settings.observer.call(settings.observer.context, report);
            }
        }
    }

    P policy_;
    typename PlansOf<selects, Codec>::type plans_;
    std::vector<DueHead<T>> due_heads_;
};

}  // namespace freqkv::detail
