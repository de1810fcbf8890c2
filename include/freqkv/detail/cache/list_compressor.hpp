// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/compression_scratch.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/cache/hybrid_engine.hpp"
#include "freqkv/detail/cache/merge_engine.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/detail/cache/selection_engine.hpp"
#include "freqkv/detail/cache/transform_engine.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

template <class T, class Codec>
constexpr auto engine_of() {
    if constexpr (HybridCodec<Codec, T>) {
        return std::type_identity<HybridEngine<T, Codec>>{};
    } else if constexpr (SelectionCodec<Codec, T>) {
        return std::type_identity<SelectionEngine<T, Codec>>{};
    } else if constexpr (MergeCodec<Codec, T>) {
        return std::type_identity<MergeEngine<T, Codec>>{};
    } else {
        return std::type_identity<TransformEngine<T, Codec>>{};
    }
}

// One compression of full lists of keys and values under a policy: what the cache and the in-place call
// share. First everything that can fail (spans, allocation, the codec's choice, plans, scratch), then a commit
// that cannot. What depends on the kind of codec is in its engine.
template <class T, class P>
class ListCompressor {
public:
    explicit ListCompressor(P policy) : policy_(std::move(policy)) {}

    const P& policy() const { return policy_; }

    // Throws Error unless the policy can compress a full list of this layout; makes the plans for it.
    [[gnu::cold]] void make_plans(const CacheLayout& layout) {
        const SpanList spans = policy_.schedule.plan(layout, 0);
        check_spans(spans, layout);
        engine_.make_plans(policy_.codec, spans);
    }

    // Compresses each list; afterwards the first size_after entries of each are the result, rotated at
    // their new indices. Then calls committed(), which must not throw, and only then the observer. If
    // compress() throws before committed(), no list has been changed.
    template <Executor E, class F>
    void compress(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, Workspace& workspace,
                  const E& executor, F&& committed) {
        plan_spans(lists, settings);
        const Index codec_bytes = engine_.begin(policy_.codec, lists, settings, executor);
        const Scratch scratch = reserve(lists, settings, workspace, executor.concurrency(), codec_bytes);
        engine_.choose(policy_.codec, lists, settings, scratch, executor);
        if (settings.text_positions) engine_.set_new_positions(lists, scratch);
        commit(lists, settings, scratch, executor);
        committed();
        if (settings.observer.call != nullptr) report(lists, settings, scratch);
    }

private:
    using Scratch = CompressionScratch<Arithmetic<T>>;

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

    Scratch reserve(std::span<const DueList<T>> lists, const CompressionSettings<T>& settings, Workspace& workspace,
                    Index workers, Index codec_bytes) const {
        CompressionSizes sizes;
        sizes.lists = static_cast<Index>(lists.size());
        sizes.spans = most_spans(lists);
        for (const DueList<T>& list : lists) {
            sizes.entries = std::max(sizes.entries, list.keys.rows);
            sizes.tasks_per_span = std::max(sizes.tasks_per_span, engine_.tasks(list, settings));
        }
        sizes.reports = settings.observer.call != nullptr;
        sizes.indices = engine_.indices;
        sizes.workers = workers;
        sizes.codec_bytes = codec_bytes;
        if (settings.text_positions) sizes.angle_lists = sizes.lists;
        const auto position = [&](Index l, Index i) {
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            return list.positions.empty() || i < list.keys.rows ? position_of(list, i) : 0;  // lists differ in length
        };
        return Scratch(sizes, settings.rope, !settings.text_positions, position, workspace);
    }

    template <Executor E>
    void commit(std::span<DueList<T>> lists, const CompressionSettings<T>& settings, const Scratch& scratch,
                const E& executor) const noexcept {
        for (DueList<T>& list : lists) {
            list.size_after = list.keys.rows;
            for (const Span& span : list.spans) list.size_after -= span.length - span.keep;
        }
        engine_.apply(lists, settings, scratch, executor);
        executor.for_each(static_cast<Index>(lists.size()) * 2, [&](Index task, Index worker) {
            const Index l = task / 2;
            const DueList<T>& list = lists[static_cast<std::size_t>(l)];
            const Index* const chosen = engine_.indices > 0 ? scratch.chosen_of(l) : nullptr;
            if (task % 2 == 0) {
                move_keys(list, settings, chosen, scratch.angles_of(worker));
            } else {
                move_values(list, chosen);
                move_ranges(list, chosen);
                move_origins(list, chosen);
                move_sums(list, chosen, list.mass);
                move_sums(list, chosen, list.weights);
            }
        });
    }

    void report(std::span<const DueList<T>> lists, const CompressionSettings<T>& settings,
                const Scratch& scratch) const {
        for (std::size_t l = 0; l < lists.size(); ++l) {
            const DueList<T>& list = lists[l];
            const Index key_tasks = engine_.key_tasks(list, settings);
            for (Index s = 0; s < list.spans.size(); ++s) {
                const Span& span = list.spans[s];
                CompressionReport report{
                    settings.layer, list.head, list.compressions, span.begin, span.length, span.keep, {}, {}};
                const Energy* const energies = scratch.energies_of(static_cast<Index>(l), s);
                for (Index task = 0; task < engine_.tasks(list, settings); ++task) {
                    (task < key_tasks ? report.keys : report.values) += energies[task];
                }
                settings.observer.call(settings.observer.context, report);
            }
        }
    }

    P policy_;
    typename decltype(engine_of<T, CodecOf<P>>())::type engine_;
    std::vector<DueHead<T>> due_heads_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
