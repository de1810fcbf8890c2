// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/detail/cache/policies.hpp"
#include "freqkv/cuda/detail/cache/selector.cuh"
#include "freqkv/cuda/detail/device/check_memory.cuh"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/transform/closing_up.hpp"
#include "freqkv/cuda/detail/transform/resample_launch.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/cuda/foreign_list.hpp"
#include "freqkv/cuda/frequency_compressor.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/error.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda {

template <class T, class P>
class SinkedKVCache;

/// Compresses caches that belong to another engine, in that engine's device memory: all sequences and layers of a
/// batch at once, each with its own length. As freqkv::InPlaceCompressor. P is LowPass<>, LocalWindow, KeyNorm,
/// ValueNorm, KeyDiff, ExactAndLowPass, or a policy of one's own with a schedule and one of their codecs:
/// FrequencyCodec<>, SelectLatest, and SelectHighest or KeepSome of ShortKeys, LongValues or KeyDifference. T is float,
/// __half or
/// __nv_bfloat16. Scores that read queries need a cache that has them, SinkedKVCache.
///
/// It belongs to the device that is current when it is made, and holds the plans it has needed so far; it is not to be
/// used from two threads at once, and must live until its work is done.
template <class T, class P = LowPass<>>
class InPlaceCompressor {
    static_assert(detail::check_element<T>());
    static_assert(detail::check_compressing_policy<P>());

    static constexpr bool transforms = detail::LowPassPolicy<P> || detail::HybridPolicy<P>;
    static constexpr bool selects = detail::HighestPolicy<P> || detail::HybridPolicy<P>;
    using Selector = std::conditional_t<selects, detail::Selector<T, detail::CodecOf<P>>, detail::NoSelector>;

public:
    /// `rope` says how the stored keys were rotated; without it they are taken to be stored before RoPE.
    explicit InPlaceCompressor(P policy = P{}, std::optional<Rope> rope = std::nullopt)
        : policy_(std::move(policy)),
          rope_(std::move(rope)),
          device_(detail::current_device()),
          selector_(policy_.codec) {}

    /// Loads the kernels and makes the plans for lists of `tokens` entries, which compress() does otherwise when it
    /// meets the first. Needed before a stream is captured. Throws Error if the schedule refuses them, CudaError if
    /// there is no memory.
    void make_plans(Index tokens, const InPlaceOptions& options = {}, Index compressions = 0) {
        detail::check_device("compressor", device_);
        detail::load_kernels<T>();
        if constexpr (selects) selector_.load();
        for (const Span& span : spans_of(tokens, options, compressions)) {
            if constexpr (transforms) (void)compressor_of(span);
        }
    }

    /// make_plans() for lists of this shape, and where entries are chosen by a score, the memory for choosing in
    /// `count` of them at once, which compress() finds otherwise. No entries are touched. Throws as make_plans().
    template <class View>
    void reserve(const ForeignList<View>& list, Index count, const InPlaceOptions& options = {}) {
        reserve(list, count, options, {});
    }

    /// Compresses all lists. Keys and values of all lists must be apart. Post-RoPE keys are un-rotated, compressed and
    /// rotated at their new positions: afterwards entry i, whether compressed or not, is at position i.
    ///
    /// Returns at once what becomes of each list; the work is in the stream, and entries behind the new length, as well
    /// as freed pages, may be written until it is done.
    ///
    /// Throws Error for views that do not fit together or that the schedule refuses, and CudaError if plans cannot
    /// be made, before anything is launched.
    template <class View>
    std::span<const InPlaceResult> compress(std::span<const ForeignList<View>> lists,
                                            const InPlaceOptions& options = {}, cudaStream_t stream = nullptr) {
        check_foreign();
        return compress_lists(lists, {}, options, nullptr, stream);
    }
    /// The same; `report` gets for each list, span by span, the energies of the heads' un-rotated keys and then of
    /// their values, as far as they are transformed; nothing under a policy that transforms nothing.
    template <class View>
    std::span<const InPlaceResult> compress(std::span<const ForeignList<View>> lists, const InPlaceOptions& options,
                                            EnergyReport& report, cudaStream_t stream = nullptr) {
        check_foreign();
        return compress_lists(lists, {}, options, &report, stream);
    }

    /// A single list.
    template <class View>
    InPlaceResult compress(const View& keys, const View& values, const InPlaceOptions& options = {},
                           cudaStream_t stream = nullptr) {
        const ForeignList<View> list{keys, values};
        return compress(std::span<const ForeignList<View>>(&list, 1), options, stream).front();
    }
    template <class View>
    InPlaceResult compress(const View& keys, const View& values, const InPlaceOptions& options, EnergyReport& report,
                           cudaStream_t stream = nullptr) {
        const ForeignList<View> list{keys, values};
        return compress(std::span<const ForeignList<View>>(&list, 1), options, report, stream).front();
    }

    /// Drops all plans; to be called when the streams are done. An engine whose lists come in many lengths bounds the
    /// memory of their plans with it, some 30 bytes for each entry of a length.
    void forget() { plans_.clear(); }

    /// Bytes of the plans' tables on the device.
    Index table_bytes() const {
        Index bytes = 0;
        for (const auto& [n, plan] : plans_) bytes += plan.table_bytes();
        return bytes;
    }
    /// Bytes on the device for choosing entries; 0 under a policy that goes by no score.
    Index scratch_bytes() const {
        if constexpr (selects) return selector_.bytes();
        return 0;
    }

private:
    // A cache of the library's own has the latest queries of its sequences.
    template <class, class>
    friend class SinkedKVCache;

    static consteval void check_foreign() {
        static_assert(query_window<detail::CodecOf<P>>() == 0,
                      "freqkv: this policy reads queries, which a foreign cache does not hold; use SinkedKVCache");
    }

    template <class View>
    void reserve(const ForeignList<View>& list, Index count, const InPlaceOptions& options,
                 const detail::QueryWindow& queries) {
        make_plans(list.keys.tokens, options, list.compressions);
        if constexpr (selects) {
            const SpanList spans = spans_of(list.keys.tokens, options, list.compressions);
            selector_.begin();
            for (Index i = 0; i < count; ++i) add_choices(list, spans, queries);
            selector_.place();
        }
    }

    // queries: of each list, or none under a policy that reads none.
    template <class View>
    std::span<const InPlaceResult> compress_lists(std::span<const ForeignList<View>> lists,
                                                  std::span<const detail::QueryWindow> queries,
                                                  const InPlaceOptions& options, EnergyReport* report,
                                                  cudaStream_t stream) {
        detail::check_device("compressor", device_);
        if (rope_) detail::check_device("rope", rope_->device());
        std::vector<InPlaceResult> results;
        std::vector<detail::Extent> extents;
        std::vector<SpanList> spans_of_lists;
        if constexpr (selects) selector_.begin();
        for (const ForeignList<View>& list : lists) {
            check(list, extents);
            spans_of_lists.push_back(spans_of(list.keys.tokens, options, list.compressions));
            if constexpr (selects) {
                const std::size_t l = spans_of_lists.size() - 1;
                add_choices(list, spans_of_lists.back(), queries.empty() ? detail::QueryWindow{} : queries[l]);
            }
        }
        detail::check_apart(std::move(extents));
        if constexpr (selects) selector_.place();

        detail::ResampleLaunch<T> compressed;
        std::vector<std::vector<detail::MoveTask<T>>> moved;
        Index spans_before = 0;
        for (std::size_t l = 0; l < lists.size(); ++l) {
            const ForeignList<View>& list = lists[l];
            const SpanList& spans = spans_of_lists[l];
            Index freed = 0;
            for (const Span& span : spans) {
                if constexpr (transforms) {
                    const FrequencyCompressor compressor = compressor_of(span);
                    const auto add = [&](detail::ResampleTask<T> added) {
                        if constexpr (selects) added.rows = selector_.others(spans_before + (&span - spans.begin()));
                        compressed.add(added, compressor);
                    };
                    add(task(list.keys, key_columns(list.keys), compressor, span, list.positions, freed));
                    add(task(list.values, columns(list.values), compressor, span, nullptr, freed));
                }
                freed += span.length - span.keep;
            }
            add_moves(list, spans, spans_before, moved);
            spans_before += spans.size();
            results.push_back(result_of(list.keys, list.keys.tokens - freed));
        }
        if constexpr (selects) selector_.launch(stream);
        compressed.run(report, 0, stream);
        // Later parts of a list go where earlier ones have been.
        for (const std::vector<detail::MoveTask<T>>& tasks : moved) {
            if (!tasks.empty()) detail::launch_move<T>(tasks, stream);
        }
        results_ = std::move(results);
        return results_;
    }

    SpanList spans_of(Index tokens, const InPlaceOptions& options, Index compressions) const {
        require(options.sinks >= 0 && options.sinks < tokens, "sinks", options.sinks,
                "must not be negative and must be below the number of tokens");
        require(options.recent >= 0 && options.recent < tokens - options.sinks, "recent", options.recent,
                "must not be negative and must be below the number of tokens less the sinks");
        require(compressions >= 0, "compressions", compressions, "must not be negative");
        return detail::spans_under(policy_, {tokens, options.sinks, options.recent}, compressions);
    }

    // Of what is transformed of a span.
    FrequencyCompressor compressor_of(const Span& span) {
        const Index exact = detail::exact_entries(policy_, span);
        return {plan(span.length - exact), plan(span.keep - exact)};
    }

    const DctPlan& plan(Index n) {
        const auto found = plans_.find(n);
        return found != plans_.end() ? found->second : plans_.emplace(n, DctPlan(n)).first->second;
    }

    template <class View>
    void check(const ForeignList<View>& list, std::vector<detail::Extent>& extents) const {
        for (const auto& [name, view] : {std::pair{"keys", &list.keys}, std::pair{"values", &list.values}}) {
            if constexpr (std::is_same_v<View, PagedKVView<T>>) {
                detail::check_device_pages(name, *view);
            } else {
                extents.push_back(detail::checked_device_extent(name, *view));
                extents.back().task = static_cast<Index>(extents.size());
            }
        }
        detail::check_memory("positions", "a list", list.positions);
        require(list.values.heads == list.keys.heads, "heads of values", list.values.heads, "must be those of keys");
        require(list.values.tokens == list.keys.tokens, "tokens of values", list.values.tokens,
                "must be those of keys");
        require(!rope_ || rope_->head_dim() == list.keys.head_dim, "head_dim of keys", list.keys.head_dim,
                "must be that of the rope");
        if constexpr (std::is_same_v<View, PagedKVView<T>>) {
            require(list.values.page_tokens == list.keys.page_tokens, "page_tokens of values", list.values.page_tokens,
                    "must be those of keys");
            require(list.keys.data != list.values.data || list.keys.block_table != list.values.block_table,
                    "data of values", 0, "must not be that of keys");
        }
    }

    template <class View>
    static detail::Columns columns(const View& view) {
        return {static_cast<int>(view.head_dim), 0, false};
    }

    template <class View>
    detail::Columns key_columns(const View& view) const {
        if (!rope_) return columns(view);
        return {static_cast<int>(view.head_dim), static_cast<int>(rope_->pairs()),
                rope_->pairing() == RopePairing::half_split};
    }

    // Where rows from `first` on are rotated, of columns that have pairs.
    detail::Positions positions(const detail::Columns& columns, const Index* table, Index first) const {
        if (columns.pairs == 0) return {};
        return {rope_->frequencies(), table == nullptr ? nullptr : table + first, first};
    }

    template <class View>
    detail::ResampleTask<T> task(const View& view, const detail::Columns& columns,
                                 const FrequencyCompressor& compressor, const Span& span, const Index* table,
                                 Index freed) const {
        detail::ResampleTask<T> task;
        task.out = detail::rows_of(view, columns, span.begin);
        task.in = detail::read_only(task.out);
        task.forward = detail::PlanAccess::device_view(compressor.long_plan());
        task.inverse = detail::PlanAccess::device_view(compressor.short_plan());
        task.heads = static_cast<int>(view.heads);
        task.kept = static_cast<int>(compressor.kept());
        task.scale = compressor.scale();
        task.in_positions = positions(columns, table, span.begin);
        task.out_positions = positions(columns, nullptr, span.begin - freed);
        return task;
    }

    template <class View>
    void add_choices(const ForeignList<View>& list, const SpanList& spans, const detail::QueryWindow& queries) {
        for (const Span& span : spans) {
            detail::SelectTask<T> task;
            task.keys = detail::read_only(detail::rows_of(list.keys, columns(list.keys)));
            task.values = detail::read_only(detail::rows_of(list.values, columns(list.values)));
            task.entries = static_cast<int>(list.keys.tokens);
            task.begin = static_cast<int>(span.begin);
            task.queries = queries;
            task.choice.heads = static_cast<int>(list.keys.heads);
            task.choice.length = static_cast<int>(span.length);
            task.choice.keep = static_cast<int>(span.keep);
            task.choice.exact = static_cast<int>(detail::exact_entries(policy_, span));
            selector_.add(task);
        }
    }

    static constexpr detail::Remains remains() {
        if (selects) return detail::Remains::chosen_entries;
        return transforms ? detail::Remains::low_frequencies : detail::Remains::latest_entries;
    }

    // moved[i] gets what closes up in the i-th step. `first_choice`: the selector's number of the first span.
    template <class View>
    void add_moves(const ForeignList<View>& list, const SpanList& spans, [[maybe_unused]] Index first_choice,
                   std::vector<std::vector<detail::MoveTask<T>>>& moved) const {
        std::size_t step = 0;
        for (const detail::Stretch& stretch : detail::closing_up(spans, list.keys.tokens, remains())) {
            detail::RowMap chosen;
            if constexpr (selects) {
                if (stretch.chosen_of >= 0) chosen = selector_.items(first_choice + stretch.chosen_of);
            }
            const auto add = [&](const View& view, const detail::Columns& columns, bool turns) {
                if (chosen.rows == nullptr && stretch.from == stretch.to && !turns) return;
                if (moved.size() <= step) moved.resize(step + 1);
                detail::MoveTask<T> task;
                task.rows = detail::rows_of(view, columns);
                task.heads = static_cast<int>(view.heads);
                task.from = static_cast<int>(stretch.from);
                task.to = static_cast<int>(stretch.to);
                task.count = static_cast<int>(stretch.count);
                task.chosen = chosen;
                if (!stretch.compressed) task.positions = positions(columns, list.positions, stretch.from);
                moved[step].push_back(task);
            };
            const detail::Columns of_keys = key_columns(list.keys);
            add(list.keys, of_keys, !stretch.compressed && of_keys.pairs > 0 && list.positions != nullptr);
            add(list.values, columns(list.values), false);
            ++step;
        }
    }

    static InPlaceResult result_of(const KVView<T>& /*view*/, Index length) { return {length, 0, 0}; }
    static InPlaceResult result_of(const PagedKVView<T>& view, Index length) {
        const Index page = view.page_tokens;
        const Index used = (view.tokens + page - 1) / page;
        const Index left = (length + page - 1) / page;
        return {length, left, used - left};
    }

    P policy_;
    std::optional<Rope> rope_;
    int device_;
    std::map<Index, DctPlan> plans_;
    Selector selector_;
    std::vector<InPlaceResult> results_;
};

/// Waits until it is done: InPlaceCompressor::compress() for a single call and list. Drops the plans.
template <class T, class View, class P = LowPass<>>
InPlaceResult compress_in_place(const View& keys, const View& values, std::optional<Rope> rope = std::nullopt,
                                const InPlaceOptions& options = {}, P policy = P{}, cudaStream_t stream = nullptr) {
    InPlaceCompressor<T, P> compressor(std::move(policy), std::move(rope));
    const InPlaceResult result = compressor.compress(keys, values, options, stream);
    cuda::check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
    return result;
}

}  // namespace freqkv::cuda
