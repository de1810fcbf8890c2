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
#include "freqkv/cuda/detail/device/check_memory.cuh"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/transform/closing_up.hpp"
#include "freqkv/cuda/detail/transform/resample_launch.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/cuda/frequency_compressor.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/error.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda {

/// One sequence in one layer of an engine's cache. View is KVView<T> or PagedKVView<T>. Pages must belong to this list
/// alone: a prefix that sequences share has to be copied first, for compression writes where it reads.
template <class View>
struct ForeignList {
    View keys;                         ///< [kv_heads, tokens, key_dim]
    View values;                       ///< [kv_heads, tokens, value_dim]
    const Index* positions = nullptr;  ///< [tokens], on the device: where the stored keys are rotated; null: 0, 1, 2, …
    Index compressions = 0;            ///< of this list so far, for schedules that depend on it
};

/// One call of InPlaceCompressor::compress().
struct InPlaceOptions {
    Index sinks = 4;   ///< first entries of each list, kept as they are
    Index recent = 0;  ///< latest entries of each list, kept as they are
};

/// What became of one list.
struct InPlaceResult {
    Index length = 0;           ///< entries left; the next token's position
    Index first_free_page = 0;  ///< of a paged list: entries of its block table from here on ...
    Index free_pages = 0;       ///< ... that many of them hold nothing any more

    friend bool operator==(const InPlaceResult&, const InPlaceResult&) = default;
};

/// Compresses caches that belong to another engine, in that engine's device memory: all sequences and layers of a
/// batch at once, each with its own length. As freqkv::InPlaceCompressor. P is LowPass<>, LocalWindow, or a policy of
/// one's own with a schedule and one of their codecs, FrequencyCodec<> or SelectLatest. T is float, __half or
/// __nv_bfloat16.
///
/// It belongs to the device that is current when it is made, and holds the plans it has needed so far; it is not to be
/// used from two threads at once, and must live until its work is done.
template <class T, class P = LowPass<>>
class InPlaceCompressor {
    static_assert(detail::check_element<T>());
    static_assert(detail::check_compressing_policy<P>());

    static constexpr bool transforms = detail::LowPassPolicy<P>;

public:
    /// `rope` says how the stored keys were rotated; without it they are taken to be stored before RoPE.
    explicit InPlaceCompressor(P policy = P{}, std::optional<Rope> rope = std::nullopt)
        : policy_(std::move(policy)), rope_(std::move(rope)), device_(detail::current_device()) {}

    /// Loads the kernels and makes the plans for lists of `tokens` entries, which compress() does otherwise when it
    /// meets the first. Needed before a stream is captured. Throws Error if the schedule refuses them, CudaError if
    /// there is no memory.
    void make_plans(Index tokens, const InPlaceOptions& options = {}, Index compressions = 0) {
        detail::check_device("compressor", device_);
        detail::load_kernels<T>();
        for (const Span& span : spans_of(tokens, options, compressions)) {
            if constexpr (transforms) {
                plan(span.length);
                plan(span.keep);
            }
        }
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
        return compress_lists(lists, options, nullptr, stream);
    }
    /// The same; `report` gets for each list, span by span, the energies of the heads' un-rotated keys and then of
    /// their values; nothing under a policy that transforms nothing.
    template <class View>
    std::span<const InPlaceResult> compress(std::span<const ForeignList<View>> lists, const InPlaceOptions& options,
                                            EnergyReport& report, cudaStream_t stream = nullptr) {
        return compress_lists(lists, options, &report, stream);
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

private:
    template <class View>
    std::span<const InPlaceResult> compress_lists(std::span<const ForeignList<View>> lists,
                                                  const InPlaceOptions& options, EnergyReport* report,
                                                  cudaStream_t stream) {
        detail::check_device("compressor", device_);
        if (rope_) detail::check_device("rope", rope_->device());
        std::vector<InPlaceResult> results;
        std::vector<detail::Extent> extents;
        detail::ResampleLaunch<T> compressed;
        std::vector<std::vector<detail::MoveTask<T>>> moved;
        for (const ForeignList<View>& list : lists) {
            check(list, extents);
            const Index tokens = list.keys.tokens;
            const SpanList spans = spans_of(tokens, options, list.compressions);
            Index freed = 0;
            for (const Span& span : spans) {
                if constexpr (transforms) {
                    const FrequencyCompressor compressor(plan(span.length), plan(span.keep));
                    compressed.add(task(list.keys, key_columns(list.keys), compressor, span, list.positions, freed),
                                   compressor);
                    compressed.add(task(list.values, columns(list.values), compressor, span, nullptr, freed),
                                   compressor);
                }
                freed += span.length - span.keep;
            }
            add_moves(list, spans, moved);
            results.push_back(result_of(list.keys, tokens - freed));
        }
        detail::check_apart(std::move(extents));
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
        task.kept = static_cast<int>(span.keep);
        task.scale = compressor.scale();
        task.in_positions = positions(columns, table, span.begin);
        task.out_positions = positions(columns, nullptr, span.begin - freed);
        return task;
    }

    // moved[i] gets what closes up in the i-th step.
    template <class View>
    void add_moves(const ForeignList<View>& list, const SpanList& spans,
                   std::vector<std::vector<detail::MoveTask<T>>>& moved) const {
        constexpr detail::Remains remains =
            transforms ? detail::Remains::low_frequencies : detail::Remains::latest_entries;
        std::size_t step = 0;
        for (const detail::Stretch& stretch : detail::closing_up(spans, list.keys.tokens, remains)) {
            const auto add = [&](const View& view, const detail::Columns& columns, bool turns) {
                if (stretch.from == stretch.to && !turns) return;
                if (moved.size() <= step) moved.resize(step + 1);
                detail::MoveTask<T> task;
                task.rows = detail::rows_of(view, columns);
                task.heads = static_cast<int>(view.heads);
                task.from = static_cast<int>(stretch.from);
                task.to = static_cast<int>(stretch.to);
                task.count = static_cast<int>(stretch.count);
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
