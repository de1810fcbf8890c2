// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/cache_options.hpp"
#include "freqkv/cuda/detail/cache/cache_launch.cuh"
#include "freqkv/cuda/detail/cache/convert_kernel.cuh"
#include "freqkv/cuda/detail/cache/convert_rows.hpp"
#include "freqkv/cuda/detail/cache/feed.hpp"
#include "freqkv/cuda/detail/cache/packed_store.cuh"
#include "freqkv/cuda/detail/cache/plain_lists.cuh"
#include "freqkv/cuda/detail/transform/move_rows.hpp"
#include "freqkv/cuda/detail/transform/resample_launch.cuh"
#include "freqkv/cuda/foreign_list.hpp"
#include "freqkv/cuda/workspace.cuh"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda::detail {

/// The keys and values of a cache's sequences in few bits, but for the first and the latest of them: packed a block at
/// a time, and compressed as floats in a workspace. `sizes` are the entries of all sequences, on the device, and behind
/// them the numbers of those that are packed.
template <int Bits>
class PackedLists {
    using Counts = freqkv::detail::ListCounts;
    using List = ForeignList<KVView<float>>;
    using Store = PackedStore<Bits>;
    using Entries = PackedEntries<Bits>;

public:
    static constexpr Index element_bytes = static_cast<Index>(sizeof(Half));
    static constexpr Index device_counts = 2;

    PackedLists(const CacheOptions& options, Workspace* shared)
        : options_(options),
          exact_(exact_parts(options)),
          keys_("keys of the cache", options, options.key_dim),
          values_("values of the cache", options, options.value_dim),
          shared_(shared) {
        check_convert("key_dim", options.key_dim);
        check_convert("value_dim", options.value_dim);
    }

    const Store& keys() const { return keys_; }
    const Store& values() const { return values_; }
    Index scratch_bytes() const { return (shared_ != nullptr ? *shared_ : own_).bytes(); }

    static const Counts& extent(const Counts& counts) { return counts; }
    Index room(const Counts& counts) const {
        const Index exact = exact_.latest + ExactParts::block - part_sizes(exact_, counts).latest;
        return std::min(options_.capacity - counts.size, exact);
    }

    template <class U>
    void append(const KVView<const U>& k, const KVView<const U>& v, std::span<const FeedPiece> pieces,
                const KeyRotation& rotation, std::int32_t* sizes, cudaStream_t stream) const {
        std::vector<ConvertTask<EntryRows<const U>, Entries>> tasks;
        for (const FeedPiece& piece : pieces) {
            const auto add = [&](const KVView<const U>& from, const Store& to, const KeyRotation& turn) {
                tasks.push_back(convert_task(rows_of(from, turn.columns, piece.first),
                                             entries_of(to, piece.sequence, sizes), options_.kv_heads, piece.count));
                tasks.back().size = sizes + piece.sequence;
                tasks.back().appends = true;
                if (turn.frequencies != nullptr) tasks.back().frequencies = turn.frequencies;
            };
            add(k, keys_, rotation);
            add(v, values_, {plain_columns(options_.value_dim)});
        }
        launch_convert<EntryRows<const U>, Entries>(tasks, stream);
    }

    /// As many as take 64 MiB of the workspace.
    Index at_once() const {
        constexpr Index most_floats = Index{1} << 24;
        return std::clamp<Index>(most_floats / list_floats(), 1, options_.sequences);
    }
    /// Unpacks them.
    std::vector<List> open(std::span<const Index> sequences, std::span<const Counts> counts, std::int32_t* sizes,
                           cudaStream_t stream) {
        float* at = workspace().reserve(list_floats() * static_cast<Index>(sequences.size()));
        std::vector<List> lists;
        std::vector<ConvertTask<Entries, EntryRows<float>>> tasks;
        for (std::size_t i = 0; i < sequences.size(); ++i, at += list_floats()) {
            lists.push_back(list_at(at, counts[i].size));
            const auto add = [&](const Store& from, const KVView<float>& to) {
                tasks.push_back(convert_task(entries_of(from, sequences[i], sizes),
                                             rows_of(to, plain_columns(to.head_dim)), to.heads, to.tokens));
            };
            add(keys_, lists.back().keys);
            add(values_, lists.back().values);
        }
        launch_convert<Entries, EntryRows<float>>(tasks, stream);
        return lists;
    }
    List shape(Index /*sequence*/, Index entries) { return list_at(workspace().reserve(list_floats()), entries); }
    Index packed_of(Index size) const { return exact_.packed_of(size); }
    /// Packs what the compression has left; first entries have not changed.
    void close(std::span<const Index> sequences, std::span<const List> lists, std::int32_t* sizes,
               cudaStream_t stream) const {
        std::vector<ConvertTask<EntryRows<const float>, Entries>> tasks;
        const Index first = options_.sinks;
        for (std::size_t i = 0; i < sequences.size(); ++i) {
            const auto add = [&](const KVView<float>& from, const Store& to) {
                tasks.push_back(convert_task(read_only(rows_of(from, plain_columns(from.head_dim), first)),
                                             entries_of(to, sequences[i], sizes, first), from.heads,
                                             from.tokens - first));
            };
            add(lists[i].keys, keys_);
            add(lists[i].values, values_);
        }
        launch_convert<EntryRows<const float>, Entries>(tasks, stream);
    }

    /// Packs the oldest of the latest entries, a block of them; those behind it close up. `counts` are those of before,
    /// the device has those of after.
    void pack(std::span<const Index> sequences, std::span<const Counts> counts, std::int32_t* sizes,
              cudaStream_t stream) const {
        std::vector<ConvertTask<EntryRows<const Half>, Entries>> tasks;
        std::vector<MoveTask<Half>> moved;
        for (std::size_t i = 0; i < sequences.size(); ++i) {
            const PartSizes before = part_sizes(exact_, counts[i]);
            for (const Store* store : {&keys_, &values_}) {
                const KVView<Half> latest = store->latest(sequences[i], before.latest);
                const EntryRows<Half> rows = rows_of(latest, plain_columns(latest.head_dim));
                tasks.push_back(convert_task(read_only(rows),
                                             entries_of(*store, sequences[i], sizes, before.first + before.packed),
                                             latest.heads, ExactParts::block));
                tasks.back().factor = 0;  // they are transformed
                if (before.latest == ExactParts::block) continue;
                MoveTask<Half>& task = moved.emplace_back();
                task.rows = rows;
                task.heads = static_cast<int>(latest.heads);
                task.from = static_cast<int>(ExactParts::block);
                task.count = static_cast<int>(before.latest - ExactParts::block);
            }
        }
        launch_convert<EntryRows<const Half>, Entries>(tasks, stream);
        if (!moved.empty()) launch_move<Half>(moved, stream);
    }

private:
    // A sequence's entries from `first` on.
    Entries entries_of(const Store& store, Index sequence, std::int32_t* sizes, Index first = 0) const {
        return {store.memory(), sequence * options_.kv_heads, sizes + options_.sequences + sequence,
                static_cast<int>(first)};
    }

    Workspace& workspace() { return shared_ != nullptr ? *shared_ : own_; }

    // What a list takes of the workspace.
    Index list_floats() const {
        return checked_product("floats of a list", options_.kv_heads, options_.capacity,
                               options_.key_dim + options_.value_dim);
    }

    List list_at(float* memory, Index entries) const {
        const auto view = [&](float* data, Index dim) {
            return KVView<float>{data, options_.kv_heads, entries, dim, options_.capacity * dim, dim, 1};
        };
        return {view(memory, options_.key_dim),
                view(memory + options_.kv_heads * options_.capacity * options_.key_dim, options_.value_dim)};
    }

    CacheOptions options_;
    ExactParts exact_;
    Store keys_, values_;
    Workspace own_;
    Workspace* shared_;
};

template <class T>
struct ListsOf {
    using type = PlainLists<T>;
};
template <int Bits>
struct ListsOf<Packed<Bits>> {
    using type = PackedLists<Bits>;
};

}  // namespace freqkv::cuda::detail
