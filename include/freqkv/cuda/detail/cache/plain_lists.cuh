// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/cache_options.hpp"
#include "freqkv/cuda/detail/cache/append_rows.hpp"
#include "freqkv/cuda/detail/cache/cache_launch.cuh"
#include "freqkv/cuda/detail/cache/entry_store.cuh"
#include "freqkv/cuda/detail/cache/feed.hpp"
#include "freqkv/cuda/foreign_list.hpp"
#include "freqkv/cuda/workspace.cuh"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda::detail {

/// How tokens' keys are rotated when they are appended.
struct KeyRotation {
    Columns columns;
    const std::uint64_t* frequencies = nullptr;  ///< null: not at all
};

/// The keys and values of a cache's sequences as elements, each by itself: compressed where they are. What
/// SinkedKVCache asks of them PackedLists has, too; `sizes` are the entries of all sequences, on the device.
template <class T>
class PlainLists {
    using Counts = freqkv::detail::ListCounts;
    using List = ForeignList<KVView<T>>;

public:
    static constexpr Index element_bytes = static_cast<Index>(sizeof(T));  // of an exact element
    static constexpr Index device_counts = 1;  // numbers of a sequence on the device: its size

    PlainLists(const CacheOptions& options, Workspace* /*shared*/)
        : options_(options),
          keys_("keys of the cache", options, options.key_dim),
          values_("values of the cache", options, options.value_dim) {}

    const EntryStore<T>& keys() const { return keys_; }
    const EntryStore<T>& values() const { return values_; }
    Index scratch_bytes() const { return 0; }

    /// What the stores count a sequence's entries by.
    static Index extent(const Counts& counts) { return counts.size; }
    /// Tokens before there has to be made room.
    Index room(const Counts& counts) const { return options_.capacity - counts.size; }

    /// Writes the tokens of some pieces behind the sequences' entries.
    template <class U>
    void append(const KVView<const U>& k, const KVView<const U>& v, std::span<const FeedPiece> pieces,
                const KeyRotation& rotation, std::int32_t* sizes, cudaStream_t stream) const {
        std::vector<AppendTask<U, T>> tasks;
        for (const FeedPiece& piece : pieces) {
            const auto add = [&](const KVView<const U>& from, const EntryStore<T>& store, const KeyRotation& turn) {
                AppendTask<U, T>& task = tasks.emplace_back();
                task.from = rows_of(from, turn.columns, piece.first);
                task.to = rows_of(store.all(piece.sequence), turn.columns);
                task.heads = static_cast<int>(options_.kv_heads);
                task.count = static_cast<int>(piece.count);
                task.capacity = static_cast<int>(options_.capacity);
                task.size = sizes + piece.sequence;
                task.frequencies = turn.frequencies;
            };
            add(k, keys_, rotation);
            add(v, values_, {{static_cast<int>(options_.value_dim), 0, false}});
        }
        launch_append(std::span<const AppendTask<U, T>>(tasks), stream);
    }

    /// Sequences that are compressed in one launch.
    Index at_once() const { return options_.sequences; }
    /// The first entries of some sequences as the compressor gets them.
    std::vector<List> open(std::span<const Index> sequences, std::span<const Counts> counts, std::int32_t* /*sizes*/,
                           cudaStream_t /*stream*/) const {
        std::vector<List> lists;
        for (std::size_t i = 0; i < sequences.size(); ++i) lists.push_back(shape(sequences[i], counts[i].size));
        return lists;
    }
    /// One of them, before there are any.
    List shape(Index sequence, Index entries) const {
        return {keys_.first(sequence, entries), values_.first(sequence, entries)};
    }
    /// Entries that are packed in a list that a compression has left.
    Index packed_of(Index /*size*/) const { return 0; }
    /// Behind a compression, when the device has the new counts, which `lists` have, too.
    void close(std::span<const Index> /*sequences*/, std::span<const List> /*lists*/, std::int32_t* /*sizes*/,
               cudaStream_t /*stream*/) const {}

private:
    CacheOptions options_;
    EntryStore<T> keys_, values_;
};

}  // namespace freqkv::cuda::detail
