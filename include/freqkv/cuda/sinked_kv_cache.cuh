// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/cache_options.hpp"
#include "freqkv/config.hpp"
#include "freqkv/cuda/cache_options.hpp"
#include "freqkv/cuda/detail/attention/attention_task.hpp"
#include "freqkv/cuda/detail/cache/cache_launch.cuh"
#include "freqkv/cuda/detail/cache/feed.hpp"
#include "freqkv/cuda/detail/cache/packed_lists.cuh"
#include "freqkv/cuda/detail/cache/plain_lists.cuh"
#include "freqkv/cuda/detail/cache/policies.hpp"
#include "freqkv/cuda/detail/cache/query_ring.cuh"
#include "freqkv/cuda/detail/device/check_memory.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/cuda/workspace.cuh"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda {

namespace detail {
struct CacheAccess;
}

/// The keys and values of one layer on a device, for a batch of sequences, each with its own length and bounded by
/// compression as in freqkv::SinkedKVCache: when a sequence is full and a further token arrives, what lies between its
/// sinks and its recent part is compressed under the policy P. Sequences that are full at the same time are compressed
/// in one launch. Entries do not depend on how a text is cut into calls, nor on the other sequences of a batch.
///
/// P is one of
///   LowPass<>      low frequencies of the span are kept (the paper's method); spans up to what DctPlan takes
///   LocalWindow    the latest entries of the span are kept
///   KeyNorm, ValueNorm, KeyDiff    the entries of the span are kept that score highest
///   SnapKV, Tova                   the same, by what the latest queries look at
///   ExactAndLowPass                a share of such entries, and the low frequencies of the others
///   Full           nothing is compressed; tokens beyond the capacity are refused
/// or a policy of one's own with a schedule and one of their codecs: FrequencyCodec<>, SelectLatest, and SelectHighest
/// or KeepSome of ShortKeys, LongValues, KeyDifference or WindowAttention. Choosing takes some 8 bytes of scratch for
/// each entry and head, WindowAttention the memory of its queries as well.
///
/// T is float, __half or __nv_bfloat16, or Packed<8>, Packed<4> or Packed<2>; keys are stored rotated at their index.
/// Work is given to a stream; sizes are known on the host at once, for they depend on numbers of tokens alone. Use one
/// stream at a time. Not to be used from two threads at once.
///
/// A packed cache holds what the host's does: the sinks and at least the latest CacheOptions::exact entries in 16 bits,
/// the others packed, 64 at a time, all transformed. Elements that are appended must be finite and within +-1024; that
/// is not looked at.
template <class T, class P = LowPass<>>
class SinkedKVCache {
    static_assert(detail::check_cached<T>());
    static_assert(detail::check_cache_policy<P>());

    static constexpr bool grows = GrowingPolicy<P>;
    static constexpr Index query_window = detail::query_window_of<P>();
    static constexpr const char* in_a_graph =
        "must not be met while a stream is captured: every launch of the graph would compress; prepare() before";
    using Lists = typename detail::ListsOf<T>::type;
    using Counts = freqkv::detail::ListCounts;

public:
    /// Allocates everything that entries and their first compression need, on the current device; a schedule that
    /// changes from compression to compression makes plans for later ones when they come. `shared`, in which packed
    /// entries are compressed, must outlive the cache; without it the cache has one of its own. Throws Error if an
    /// option is outside its range or the policy refuses the layout, CudaError if there is no device or no memory.
    explicit SinkedKVCache(const CacheOptions& options, std::optional<Rope> rope = std::nullopt, P policy = P{},
                           Workspace* shared = nullptr)
        : options_(detail::completed(options, Lists::element_bytes, grows)),
          rope_(checked(std::move(rope), options_)),
          compressor_(std::move(policy), rope_),
          device_(detail::current_device()),
          lists_(options_, shared),
          queries_(options_, query_window),
          counts_(static_cast<std::size_t>(options_.sequences)) {
        if constexpr (!grows) {
            compressor_.reserve(lists_.shape(0, options_.capacity), lists_.at_once(), {options_.sinks, options_.recent},
                                queries_of(0, query_window));
        }
        sizes_ = DeviceArray<std::int32_t>(std::vector<std::int32_t>(counts_.size() * Lists::device_counts, 0));
    }

    const CacheOptions& options() const { return options_; }
    const std::optional<Rope>& rope() const { return rope_; }

    /// Entries that a sequence holds, which is the position of its next token where room() > 0.
    Index size(Index sequence) const { return counts(sequence).size; }
    Index tokens_seen(Index sequence) const { return counts(sequence).tokens_seen; }
    Index compressions(Index sequence) const { return counts(sequence).compressions; }
    /// Tokens that can be appended before the sequence has to be compressed, or of a packed type entries to be packed;
    /// under Full with another type, at all.
    Index room(Index sequence) const { return lists_.room(counts(sequence)); }

    /// The stored keys of a sequence, [kv_heads, size, key_dim], entry i rotated at position i; on the device.
    KVView<T> keys(Index sequence) const
        requires(!is_packed<T>)
    {
        return lists_.keys().first(sequence, size(sequence));
    }
    /// The stored values of a sequence, [kv_heads, size, value_dim].
    KVView<T> values(Index sequence) const
        requires(!is_packed<T>)
    {
        return lists_.values().first(sequence, size(sequence));
    }
    /// Memory for the entries of all sequences, [sequences, kv_heads, capacity, key_dim or value_dim].
    const T* all_keys() const
        requires(!is_packed<T>)
    {
        return lists_.keys().data();
    }
    const T* all_values() const
        requires(!is_packed<T>)
    {
        return lists_.values().data();
    }
    /// Entries of all sequences, [sequences], on the device, in the order of the stream.
    const std::int32_t* device_sizes() const { return sizes_.data(); }

    /// Appends tokens, compressing sequences that are full when a further one comes. k is [kv_heads, tokens, key_dim]
    /// and v [kv_heads, tokens, value_dim], un-rotated, the tokens of parts[0] first. Throws Error for what does not
    /// fit, without change. If a plan for a compression cannot be made, the tokens before that boundary remain, and
    /// tokens_seen() says how many.
    template <class U>
    void append(KVView<const U> k, KVView<const U> v, std::span<const SequenceTokens> parts,
                cudaStream_t stream = nullptr) {
        static_assert(query_window == 0, "freqkv: this policy reads queries; append(q, k, v) them too");
        append(KVView<const U>{}, k, v, parts, stream);
    }

    /// The same with the tokens' queries, q [query_heads, tokens, key_dim], un-rotated, which are kept as far as the
    /// policy reads them.
    template <class U>
    void append(KVView<const U> q, KVView<const U> k, KVView<const U> v, std::span<const SequenceTokens> parts,
                cudaStream_t stream = nullptr) {
        detail::Feed feed(parts, options_.sequences, k.tokens);
        if (feed.done()) return;
        check(q, k, v);
        while (!feed.done()) {
            const std::vector<detail::FeedPiece> pieces = next_round(feed, stream);
            write(q, k, v, pieces, stream);
            advance(pieces, stream);
        }
    }

    /// To be called before a graph is launched again that holds a captured call which appended `parts`: the device
    /// counts for itself, the host is told. No sequence may meet a boundary: prepare() in time. Throws Error if one
    /// does.
    void replayed(std::span<const SequenceTokens> parts) {
        detail::Feed(parts, options_.sequences).require_room(rooms());
        for (const SequenceTokens& part : parts) counts(part.sequence).append(part.tokens);
    }

    /// Compresses now those of the sequences that are full, and packs what is to be packed; the state is what the next
    /// token would have made. Under Full nothing is compressed. Throws Error if there is something to do while the
    /// stream is captured.
    void prepare(std::span<const Index> sequences, cudaStream_t stream = nullptr) {
        std::vector<Index> full;
        for (const Index sequence : sequences) {
            if (room(sequence) == 0 && !(grows && free_entries(sequence) == 0)) full.push_back(sequence);
        }
        if (!full.empty() && detail::is_captured(stream)) refuse("room of a sequence", "0", in_a_graph);
        make_room(full, stream);
    }

    /// Keeps the first `tokens` tokens seen, which must not be below the count at the latest compression or, of a
    /// packed type, when entries were packed.
    void truncate(Index sequence, Index tokens, cudaStream_t stream = nullptr) {
        Counts shorter = counts(sequence);
        shorter.truncate(tokens);
        set_counts(sequence, shorter, stream);
        counts(sequence) = shorter;
    }

    /// As after construction.
    void clear(Index sequence, cudaStream_t stream = nullptr) {
        set_counts(sequence, {}, stream);
        counts(sequence) = {};
    }

    /// Makes sequence `to` a copy of `from`, which both go on from by themselves.
    void fork(Index from, Index to, cudaStream_t stream = nullptr) {
        const Counts source = counts(from);
        require(from != to, "sequence to copy to", to, "must be another one");
        (void)counts(to);
        detail::check_device("cache", device_);
        lists_.keys().copy(from, to, Lists::extent(source), stream);
        lists_.values().copy(from, to, Lists::extent(source), stream);
        if constexpr (query_window > 0) queries_.copy(from, to, stream);
        set_counts(to, source, stream);
        counts(to) = source;
    }

    /// Waits for the stream. A sequence in host memory.
    SavedSequence<T> save(Index sequence, cudaStream_t stream = nullptr) const {
        const Counts& of = counts(sequence);
        detail::check_device("cache", device_);
        SavedSequence<T> saved;
        saved.keys = lists_.keys().download(sequence, Lists::extent(of), stream);
        saved.values = lists_.values().download(sequence, Lists::extent(of), stream);
        if constexpr (query_window > 0) saved.queries = queries_.download(sequence, stream);
        cuda::check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
        saved.size = of.size;
        saved.tokens_seen = of.tokens_seen;
        saved.compressions = of.compressions;
        saved.compressed_at = of.compressed_at;
        saved.packed = of.packed;
        saved.packed_at = of.packed_at;
        return saved;
    }

    /// Waits for the stream. Makes a sequence what save() gave, of this cache or of another one of the same heads,
    /// dimensions and capacity. Throws Error for what does not fit, without change.
    void load(Index sequence, const SavedSequence<T>& saved, cudaStream_t stream = nullptr) {
        (void)counts(sequence);
        require(saved.size >= 0 && saved.size <= options_.capacity, "size of the saved sequence", saved.size,
                "must be within the capacity");
        require(saved.compressed_at >= 0 && saved.tokens_seen >= saved.compressed_at &&
                    saved.tokens_seen - saved.compressed_at <= saved.size && saved.packed_at >= 0 &&
                    saved.tokens_seen >= saved.packed_at,
                "tokens_seen of the saved sequence", saved.tokens_seen, "must fit its size and compressions");
        require(saved.compressions >= 0, "compressions of the saved sequence", saved.compressions,
                "must not be negative");
        const Counts loaded{saved.size,          saved.tokens_seen, saved.compressions,
                            saved.compressed_at, saved.packed,      saved.packed_at};
        lists_.keys().check_rows(saved.keys, Lists::extent(loaded));
        lists_.values().check_rows(saved.values, Lists::extent(loaded));
        const auto queries = static_cast<Index>(saved.queries.size());
        require(queries == queries_.sequence_size(), "queries of the saved sequence", queries,
                "must be query_heads times key_dim for each token of the policy's window");
        detail::check_device("cache", device_);
        lists_.keys().upload(sequence, saved.keys, Lists::extent(loaded), stream);
        lists_.values().upload(sequence, saved.values, Lists::extent(loaded), stream);
        if constexpr (query_window > 0) queries_.upload(sequence, saved.queries, stream);
        set_counts(sequence, loaded, stream);
        cuda::check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
        counts(sequence) = loaded;
    }

    /// Bytes held on the device; the transform's tables count as tables, a workspace as scratch.
    CacheMemory memory() const {
        CacheMemory memory;
        memory.keys = lists_.keys().bytes();
        memory.values = lists_.values().bytes();
        memory.bookkeeping = sizes_.size() * static_cast<Index>(sizeof(std::int32_t)) + queries_.bytes();
        if constexpr (!grows) {
            memory.tables = compressor_.table_bytes();
            memory.scratch = compressor_.scratch_bytes();
        }
        memory.scratch += lists_.scratch_bytes();
        return memory;
    }

private:
    friend struct detail::CacheAccess;

    // What append() and attention are made of: the next tokens up to a boundary, after compressing what is full; their
    // entries; and their counting, after which they are part of the cache.

    // Throws what compression throws; the tokens before it are then in the cache.
    std::vector<detail::FeedPiece> next_round(detail::Feed& feed, cudaStream_t stream) {
        if constexpr (grows) {
            feed.require_room([this](Index sequence) { return free_entries(sequence); });
        }
        if constexpr (!grows || is_packed<T>) {
            if (detail::is_captured(stream)) {
                feed.require_room(rooms(), std::string(", and ") + in_a_graph);
            } else {
                make_room(feed.full(rooms()), stream);
            }
        }
        return feed.next(rooms());
    }

    template <class U>
    void write(const KVView<const U>& q, const KVView<const U>& k, const KVView<const U>& v,
               std::span<const detail::FeedPiece> pieces, cudaStream_t stream) {
        static_assert(detail::check_element<U>());
        if constexpr (query_window > 0) write_queries(q, pieces, stream);
        lists_.append(k, v, pieces, key_rotation(), sizes_.data(), stream);
    }

    void advance(std::span<const detail::FeedPiece> pieces, cudaStream_t stream) {
        std::vector<detail::SizeChange> changes;
        for (const detail::FeedPiece& piece : pieces) {
            changes.push_back(
                {static_cast<std::int32_t>(piece.sequence), static_cast<std::int32_t>(piece.count), true});
        }
        detail::change_sizes(changes, sizes_.data(), stream);
        for (const detail::FeedPiece& piece : pieces) counts(piece.sequence).append(piece.count);
    }

    template <class U>
    void write_queries(const KVView<const U>& q, std::span<const detail::FeedPiece> pieces, cudaStream_t stream) {
        std::vector<detail::QueryTask<U>> tasks;
        for (const detail::FeedPiece& piece : pieces) {
            const detail::Columns columns{static_cast<int>(options_.key_dim), 0, false};
            tasks.push_back(queries_.task(piece.sequence, detail::rows_of(q, columns, piece.first)));
            tasks.back().count = static_cast<int>(piece.count);
            tasks.back().capacity = static_cast<int>(options_.capacity);
            tasks.back().size = sizes_.data() + piece.sequence;
        }
        detail::launch_append_queries(std::span<const detail::QueryTask<U>>(tasks), stream);
    }

    // What the policy reads of a sequence when `tokens` tokens have been seen.
    detail::QueryWindow queries_of([[maybe_unused]] Index sequence, [[maybe_unused]] Index tokens) const {
        if constexpr (query_window == 0) {
            return {};
        } else {
            const detail::KeyRotation rotation = key_rotation();
            return queries_.of(sequence, tokens, rotation.columns, rotation.frequencies);
        }
    }

    // q is looked at only where the policy reads queries.
    template <class U>
    void check(const KVView<const U>& q, const KVView<const U>& k, const KVView<const U>& v) const {
        detail::check_device("cache", device_);
        if constexpr (query_window > 0) {
            (void)detail::checked_device_extent("q", q);
            require(q.heads == options_.query_heads, "heads of q", q.heads, "must be query_heads of the cache");
            require(q.head_dim == options_.key_dim, "head_dim of q", q.head_dim, "must be key_dim of the cache");
            require(q.tokens == k.tokens, "tokens of q", q.tokens, "must be the tokens of k");
        }
        (void)detail::checked_device_extent("k", k);
        (void)detail::checked_device_extent("v", v);
        require(k.heads == options_.kv_heads, "heads of k", k.heads, "must be kv_heads of the cache");
        require(v.heads == options_.kv_heads, "heads of v", v.heads, "must be kv_heads of the cache");
        require(k.head_dim == options_.key_dim, "head_dim of k", k.head_dim, "must be key_dim of the cache");
        require(v.head_dim == options_.value_dim, "head_dim of v", v.head_dim, "must be value_dim of the cache");
        require(v.tokens == k.tokens, "tokens of v", v.tokens, "must be the tokens of k");
    }

    detail::Columns key_columns() const {
        if (!rope_) return {static_cast<int>(options_.key_dim), 0, false};
        return {static_cast<int>(options_.key_dim), static_cast<int>(rope_->pairs()),
                rope_->pairing() == RopePairing::half_split};
    }

    detail::KeyRotation key_rotation() const {
        const detail::Columns columns = key_columns();
        return {columns, columns.pairs > 0 ? rope_->frequencies() : nullptr};
    }

    // A growing cache has nothing to compress.
    struct NoCompressor {
        NoCompressor(const P& /*policy*/, const std::optional<Rope>& /*rope*/) {}
    };

    static std::optional<Rope> checked(std::optional<Rope> rope, const CacheOptions& options) {
        if (!rope) return rope;
        detail::check_device("rope", rope->device());
        require(rope->head_dim() == options.key_dim, "head_dim of the rope", rope->head_dim(),
                "must be key_dim of the cache");
        return rope;
    }

    auto rooms() const {
        return [this](Index sequence) { return room(sequence); };
    }

    Index free_entries(Index sequence) const { return options_.capacity - size(sequence); }

    Counts& counts(Index sequence) {
        require(sequence >= 0 && sequence < options_.sequences, "sequence", sequence, "must be one of the cache's");
        return counts_[static_cast<std::size_t>(sequence)];
    }
    const Counts& counts(Index sequence) const { return const_cast<SinkedKVCache*>(this)->counts(sequence); }

    // Of sequences without room.
    void make_room(std::span<const Index> sequences, cudaStream_t stream) {
        std::vector<Index> full, to_pack;
        for (const Index sequence : sequences) (free_entries(sequence) == 0 ? full : to_pack).push_back(sequence);
        if constexpr (!grows) {
            const auto at_once = static_cast<std::size_t>(lists_.at_once());
            for (std::size_t done = 0; done < full.size(); done += at_once) {
                compress(std::span<const Index>(full).subspan(done, std::min(at_once, full.size() - done)), stream);
            }
        }
        if constexpr (is_packed<T>) pack(to_pack, stream);
    }

    void compress(std::span<const Index> full, cudaStream_t stream)
        requires(!grows)
    {
        if (full.empty()) return;
        std::vector<ForeignList<KVView<Unpacked<T>>>> lists = lists_.open(full, counts_of(full), sizes_.data(), stream);
        std::vector<detail::QueryWindow> queries;
        for (std::size_t i = 0; i < full.size(); ++i) {
            lists[i].compressions = compressions(full[i]);
            queries.push_back(queries_of(full[i], tokens_seen(full[i])));
        }
        const std::span<const InPlaceResult> results =
            compressor_.compress_lists(std::span<const ForeignList<KVView<Unpacked<T>>>>(lists), queries,
                                       {options_.sinks, options_.recent}, nullptr, stream);
        std::vector<detail::SizeChange> changes, shifts;
        for (std::size_t i = 0; i < full.size(); ++i) {
            const Index length = results[i].length;
            add_changes(changes, full[i], length, lists_.packed_of(length));
            if constexpr (query_window > 0) shifts.push_back(queries_.shift_of(full[i], tokens_seen(full[i]), length));
        }
        detail::change_sizes(changes, sizes_.data(), stream);
        if constexpr (query_window > 0) queries_.shift(shifts, stream);
        for (std::size_t i = 0; i < full.size(); ++i) {
            const Index length = results[i].length;
            lists[i].keys.tokens = length;
            lists[i].values.tokens = length;
            counts(full[i]).compress(length);
            counts(full[i]).packed = lists_.packed_of(length);
        }
        lists_.close(full, lists, sizes_.data(), stream);
    }

    void pack(std::span<const Index> sequences, cudaStream_t stream)
        requires is_packed<T>
    {
        if (sequences.empty()) return;
        const std::vector<Counts> before = counts_of(sequences);
        std::vector<Counts> after = before;
        std::vector<detail::SizeChange> changes;
        for (std::size_t i = 0; i < sequences.size(); ++i) {
            after[i].pack(ExactParts::block);
            add_changes(changes, sequences[i], after[i].size, after[i].packed);
        }
        detail::change_sizes(changes, sizes_.data(), stream);
        lists_.pack(sequences, before, sizes_.data(), stream);
        for (std::size_t i = 0; i < sequences.size(); ++i) counts(sequences[i]) = after[i];
    }

    std::vector<Counts> counts_of(std::span<const Index> sequences) const {
        std::vector<Counts> of;
        for (const Index sequence : sequences) of.push_back(counts(sequence));
        return of;
    }

    // A sequence's numbers of entries on the device.
    void add_changes(std::vector<detail::SizeChange>& changes, Index sequence, Index size,
                     [[maybe_unused]] Index packed) const {
        changes.push_back({static_cast<std::int32_t>(sequence), static_cast<std::int32_t>(size), false});
        if constexpr (is_packed<T>) {
            changes.push_back(
                {static_cast<std::int32_t>(options_.sequences + sequence), static_cast<std::int32_t>(packed), false});
        }
    }

    // On the device.
    void set_counts(Index sequence, const Counts& counts, cudaStream_t stream) {
        detail::check_device("cache", device_);
        std::vector<detail::SizeChange> changes;
        add_changes(changes, sequence, counts.size, counts.packed);
        detail::change_sizes(changes, sizes_.data(), stream);
        if constexpr (query_window > 0) {
            const detail::SizeChange shift = queries_.shift_of(sequence, counts.tokens_seen, counts.size);
            queries_.shift(std::span<const detail::SizeChange>(&shift, 1), stream);
        }
    }

    CacheOptions options_;
    std::optional<Rope> rope_;
    std::conditional_t<grows, NoCompressor, InPlaceCompressor<Unpacked<T>, P>> compressor_;
    int device_;
    Lists lists_;
    detail::QueryRing queries_;
    std::vector<Counts> counts_;
    DeviceArray<std::int32_t> sizes_;  // [sequences], and behind them of a packed cache the entries that are packed
};

namespace detail {

/// What ChunkedAttention needs of a cache and nobody else; see there.
struct CacheAccess {
    template <class T, class P>
    static std::vector<FeedPiece> next_round(SinkedKVCache<T, P>& cache, Feed& feed, cudaStream_t stream) {
        return cache.next_round(feed, stream);
    }
    template <class U, class T, class P>
    static void write(SinkedKVCache<T, P>& cache, const KVView<const U>& q, const KVView<const U>& k,
                      const KVView<const U>& v, std::span<const FeedPiece> pieces, cudaStream_t stream) {
        cache.write(q, k, v, pieces, stream);
    }
    template <class T, class P>
    static void advance(SinkedKVCache<T, P>& cache, std::span<const FeedPiece> pieces, cudaStream_t stream) {
        cache.advance(pieces, stream);
    }
    template <class U, class T, class P>
    static void check(const SinkedKVCache<T, P>& cache, const KVView<const U>& q, const KVView<const U>& k,
                      const KVView<const U>& v) {
        cache.check(q, k, v);
    }
    template <class T, class P>
    static Columns key_columns(const SinkedKVCache<T, P>& cache) {
        return cache.key_columns();
    }
    /// Where attention reads: the keys, the values, and of a packed cache how many are packed.
    template <class Q, class T, class P>
    static void set_memory(const SinkedKVCache<T, P>& cache, AttentionTask<Q, T>& task) {
        if constexpr (is_packed<T>) {
            task.keys = cache.lists_.keys().memory();
            task.values = cache.lists_.values().memory();
            task.packed = cache.device_sizes() + cache.options().sequences;
        } else {
            task.keys = cache.all_keys();
            task.values = cache.all_values();
        }
        task.sizes = cache.device_sizes();
    }
};

}  // namespace detail

}  // namespace freqkv::cuda
