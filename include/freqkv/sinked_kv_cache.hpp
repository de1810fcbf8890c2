// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/cache_options.hpp"
#include "freqkv/config.hpp"
#include "freqkv/detail/cache/kv_list.hpp"
#include "freqkv/detail/cache/list_compressor.hpp"
#include "freqkv/detail/cache/packed_staging.hpp"
#include "freqkv/detail/cache/query_ring.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {
struct SnapshotAccess;  // snapshot.hpp
}

namespace freqkv::inline FREQKV_ISA {

/// The keys and values of one layer, bounded by compression: when a head is full and a further token
/// arrives, the policy compresses what lies between its sinks and its recent part. Each KV head is a list
/// of its own, with its own capacity, size and number of compressions; boundaries depend on the number
/// of tokens seen and on nothing else, so that any chunking of the same text leaves bit-identical
/// entries.
///
/// T, the storage type, is float, double, Eigen::half or Eigen::bfloat16, Half, BFloat16, _Float16 (or any type that
/// converts from and to float; see element_format), or Packed<8>, Packed<4> or Packed<2>; arithmetic is in
/// Arithmetic<T>. Keys are stored rotated at their index, or at their place in the text (CacheOptions::positions).
///
/// Not to be used from two threads at once. Caches that share a Workspace are not to be used at the same
/// time; apart from that, different caches are independent. A copy is a fork: it has the same entries
/// and goes on by itself (with the same shared workspace, if there is one).
template <class T, class P>
class SinkedKVCache {
    static_assert(detail::check_stored<T>());
    static_assert(detail::check_policy<P, Unpacked<T>>());

    static constexpr bool grows = GrowingPolicy<P>;
    using List = detail::KVList<T>;
    using DueList = detail::DueList<Unpacked<T>>;

    static constexpr Index window_of_policy() {
        if constexpr (grows) {
            return 0;
        } else {
            return freqkv::query_window<detail::CodecOf<P>>();
        }
    }
    static constexpr bool policy_reads_mass() {
        if constexpr (grows) {
            return false;
        } else {
            return reads_attention_mass<detail::CodecOf<P>>();
        }
    }

public:
    using C = Arithmetic<T>;
    /// The stored keys or values of a head.
    using RowsView = std::conditional_t<is_packed<T>, PackedView<const T>, MatrixView<const T>>;

    /// The queries of the latest tokens that the policy's codec reads; 0 for most.
    static constexpr Index query_window = window_of_policy();
    /// Whether the policy's codec reads the attention that entries have been given; for most not.
    static constexpr bool has_attention_mass = policy_reads_mass();

    /// Allocates everything the entries need. `rope` is for key_dim; give it a table of `capacity`
    /// positions, and share it among layers; with Positions::text in half steps, of all tokens. `shared`, if given,
    /// must outlive the cache. Throws Error if an option is outside its range or the policy refuses the layout.
    [[gnu::cold]] SinkedKVCache(const CacheOptions& options, Rope<C> rope, P policy = P{}, Workspace* shared = nullptr)
        : options_(detail::completed(options)),
          rope_(std::move(rope)),
          attention_decay_(decay_of(policy)),
          compressor_(std::move(policy)),
          queries_(query_window, options_.kv_heads, options_.query_heads / options_.kv_heads, options_.key_dim),
          shared_(shared) {
        require(rope_.head_dim() == options_.key_dim, "head_dim of the rope", rope_.head_dim(),
                "must be key_dim of the cache");
        require(rope_.steps() == (has_text_positions() ? 2 : 1), "steps of the rope", rope_.steps(),
                "must be 2 with Positions::text (see Rope::in_half_steps()), else 1");
        require(!options_.weighted || has_text_positions(), "weighted", 1, "must be false without Positions::text");
        lists_.reserve(options_.head_capacities.size());
        due_.reserve(options_.head_capacities.size());
        if constexpr (is_packed<T>) packed_.reserve(options_.head_capacities.size());
        for (const Index capacity : options_.head_capacities) {
            if constexpr (!grows) {
                require(capacity > options_.sinks && capacity - options_.sinks > options_.recent, "capacity", capacity,
                        "must be at least sinks + recent + 2");
                compressor_.make_plans({capacity, options_.sinks, options_.recent});
            }
            lists_.emplace_back(capacity, options_.key_dim, options_.value_dim,
                                ExactParts{options_.sinks, options_.exact}, has_attention_mass,
                                !grows && options_.weighted);
        }
    }

    const CacheOptions& options() const { return options_; }
    const Rope<C>& rope() const { return rope_; }
    const P& policy() const { return compressor_.policy(); }
    Index kv_heads() const { return options_.kv_heads; }
    Index query_heads() const { return options_.query_heads; }
    Index key_dim() const { return options_.key_dim; }
    Index value_dim() const { return options_.value_dim; }

    /// Tokens fed since construction or clear(), less those taken back by truncate().
    Index tokens_seen() const { return lists_.front().counts.tokens_seen; }
    /// Entries that head `h` holds now.
    Index size(Index h = 0) const { return list(h).counts.size; }
    Index capacity(Index h = 0) const { return list(h).capacity(); }
    Index compressions(Index h = 0) const { return list(h).counts.compressions; }

    /// The spans that head `h`'s latest compression took, as the list was before it; `keep` is what was kept.
    /// None before the first.
    const SpanList& compressed_spans(Index h = 0) const { return list(h).compressed; }

    /// Tokens that can be appended before a head has to be compressed, or of a packed type entries to be packed; 0 if
    /// one is full. A growing cache has room for any number, until entries are to be packed.
    Index room() const {
        Index least = std::numeric_limits<Index>::max();
        if constexpr (!grows) {
            for (const List& list : lists_) least = std::min(least, list.capacity() - list.counts.size);
        }
        if constexpr (is_packed<T>) {
            for (const List& list : lists_) least = std::min(least, list.exact_room());
        }
        return least;
    }

    /// The position of the next token's key and query in head `h`, provided that room() > 0 (call
    /// prepare() first).
    Index next_position(Index h = 0) const { return list(h).position(size(h), has_text_positions()); }

    /// The stored keys of head `h`, [size(h), key_dim], row i rotated at position i, or at that of its tokens. Valid
    /// until the next change. Of a packed type it is a PackedView; load() reads single entries.
    auto keys(Index h) const { return RowsView(list(h).keys()); }
    /// The stored values of head `h`, [size(h), value_dim].
    auto values(Index h) const { return RowsView(list(h).values()); }

    /// Entry i of head h as it is stored, to key [key_dim] and value [value_dim].
    void load(Index h, Index i, C* key, C* value) const {
        require(i >= 0 && i < size(h), "entry", i, "must be within the head's size");
        const auto read = [&](const RowsView& rows, Index columns, C* to) {
            if constexpr (is_packed<T>) {
                detail::rows_as_arithmetic(rows, i, 1, to);
                detail::hadamard(to, columns);
            } else {
                detail::convert_row(rows.row(i), columns, to);
            }
        };
        read(keys(h), key_dim(), key);
        read(values(h), value_dim(), value);
    }

    /// The tokens that entry i of head h stands for: itself before any compression; afterwards those of
    /// the entries it was made from (for a low-pass: the part of the span around its place; for merged
    /// ones, which may have gaps between them: as many tokens, about their mean place).
    TokenRange entry_tokens(Index h, Index i) const {
        require(i >= 0 && i < size(h), "entry", i, "must be within the head's size");
        return list(h).ranges()[i];
    }

    /// The attention that each entry of head `h` has been given: the softmax weights of the group's queries since it
    /// came, summed, [size(h)]. Only under a policy that reads it. Valid until the next change.
    std::span<const C> attention_mass(Index h) const
        requires has_attention_mass
    {
        return {list(h).mass(), static_cast<std::size_t>(size(h))};
    }

    /// The tokens that each entry of head `h` stands for in attention, [size(h)]: what a transform makes of several
    /// entries has the sum of their weights. Empty unless CacheOptions::weighted. Valid until the next change.
    std::span<const C> weights(Index h) const {
        return {list(h).weights(), list(h).weights() == nullptr ? 0 : static_cast<std::size_t>(size(h))};
    }

    /// Appends tokens, compressing whenever a head is full and a further one comes. k is [kv_heads,
    /// tokens, key_dim] and v [kv_heads, tokens, value_dim], un-rotated, with any strides and element
    /// type (KVView, or anything shaped like a rank-3 Eigen Tensor).
    /// Throws Error for other shapes, and with a packed type for elements beyond +-1024, without change. If the policy
    /// throws, the tokens before that compression remain, and tokens_seen() says how many.
    template <class K, class V, Executor E = SerialExecutor>
    void append(const K& k, const V& v, const E& executor = {}) {
        static_assert(!has_attention_mass,
                      "freqkv: this policy reads attention; feed the cache through ChunkedAttention");
        static_assert(query_window == 0, "freqkv: this policy reads queries; append(q, k, v) them too");
        append_views(NoQueries{}, const_view(k), const_view(v), executor);
    }

    /// The same for policies that read queries: q is [query_heads, tokens, key_dim], un-rotated.
    template <class Q, class K, class V, Executor E = SerialExecutor>
        requires(!Executor<V>)
    void append(const Q& q, const K& k, const V& v, const E& executor = {}) {
        static_assert(!has_attention_mass,
                      "freqkv: this policy reads attention; feed the cache through ChunkedAttention");
        append_views(const_view(q), const_view(k), const_view(v), executor);
    }

    /// Compresses now every head that is full, and packs what is to be packed, in idle time; the state is what the next
    /// token would have made. Says whether there was anything to do. If the policy throws, nothing has changed.
    template <Executor E = SerialExecutor>
    bool prepare(const E& executor = {}) {
        if (room() > 0) return false;
        if constexpr (!grows) {
            const auto full = [](const List& list) { return list.counts.size == list.capacity(); };
            if (std::any_of(lists_.begin(), lists_.end(), full)) compress_full_heads(executor);
        }
        if constexpr (is_packed<T>) {
            const Index bytes = scratch_bytes();
            std::byte* const scratch = workspace().reserve(executor.concurrency(), bytes);
            executor.for_each(options_.kv_heads, [&](Index h, Index worker) {
                lists_[static_cast<std::size_t>(h)].pack(
                    reinterpret_cast<C*>(scratch + worker * Workspace::stride(bytes)));
            });
        }
        return true;
    }

    /// Cuts `tokens` further tokens at the boundaries: calls f(first, count) for pieces that there is room for, in
    /// order, and compresses before a piece where a head is full. f appends the piece, as an engine with attention of
    /// its own does between other work. If the policy or f throws, the pieces before remain.
    template <Executor E = SerialExecutor, class F>
    void for_each_piece(Index tokens, F&& f, const E& executor = {}) {
        for (Index done = 0; done < tokens;) {
            prepare(executor);
            const Index count = std::min(room(), tokens - done);
            f(done, count);
            done += count;
        }
    }

    /// Keeps the first `tokens` tokens seen; every continuation is then bit-identical to never having
    /// seen the others. Throws Error for more than tokens_seen() or fewer than earliest_truncation().
    void truncate(Index tokens) {
        require(tokens >= earliest_truncation() && tokens <= tokens_seen(), "tokens to keep", tokens,
                "must be within earliest_truncation() and tokens_seen()");
        for (List& list : lists_) list.counts.truncate(tokens);
    }

    /// The least that truncate() takes: tokens seen at the latest compression, or when entries were packed, 0 before
    /// the first. Under a policy that reads attention all that have been seen, for what they gave to others cannot be
    /// taken back to the last bit.
    Index earliest_truncation() const {
        if constexpr (has_attention_mass) return tokens_seen();
        Index earliest = 0;
        for (const List& list : lists_) earliest = std::max(earliest, list.counts.earliest_truncation());
        return earliest;
    }

    /// As after construction; keeps the memory.
    void clear() {
        for (List& list : lists_) {
            list.counts = {};
            list.compressed = {};
        }
    }

    CacheMemory memory() const {
        CacheMemory memory;
        for (const List& list : lists_) {
            memory.keys += list.key_bytes();
            memory.values += list.value_bytes();
            memory.bookkeeping += list.range_bytes() + list.mass_bytes() + list.weight_bytes();
        }
        memory.bookkeeping += queries_.bytes();
        memory.scratch = (shared_ != nullptr ? *shared_ : own_).bytes();
        memory.tables = rope_.table_bytes();
        return memory;
    }

private:
    static constexpr double largest_packed = 1024;

    // It checks the shapes once and then writes piece by piece.
    template <class>
    friend class ChunkedAttention;
    friend struct detail::SnapshotAccess;

    // Of a token that is entry `entry` as it came.
    Index position_of(Index h, Index entry) const {
        return lists_[static_cast<std::size_t>(h)].position(entry, has_text_positions());
    }

    struct NoQueries {};

    // What is left of an entry's attention for each token that follows.
    [[gnu::cold]] static C decay_of([[maybe_unused]] const P& policy) {
        if constexpr (has_attention_mass && requires { policy.codec.attention_decay(); }) {
            const double decay = policy.codec.attention_decay();
            require(decay > 0 && decay <= 1, "attention_decay", decay, "must be above 0 and at most 1");
            return static_cast<C>(decay);
        } else {
            return 1;
        }
    }

    const List& list(Index h) const {
        require(h >= 0 && h < options_.kv_heads, "head", h, "must be within kv_heads");
        return lists_[static_cast<std::size_t>(h)];
    }

    template <class X>
    static auto const_view(const X& x) {
        using Element = std::remove_cvref_t<decltype(*x.data)>;
        return KVView<const Element>(x);
    }
    template <class X>
        requires requires(const X& x) { x.data(); }
    static auto const_view(const X& x) {
        using Element = std::remove_cvref_t<decltype(*x.data())>;
        return KVView<const Element>(x);
    }

    template <class K, class V>
    void check(const KVView<const K>& k, const KVView<const V>& v) const {
        require(k.heads == options_.kv_heads, "heads of k", k.heads, "must be kv_heads of the cache");
        require(v.heads == options_.kv_heads, "heads of v", v.heads, "must be kv_heads of the cache");
        require(k.head_dim == options_.key_dim, "head_dim of k", k.head_dim, "must be key_dim of the cache");
        require(v.head_dim == options_.value_dim, "head_dim of v", v.head_dim, "must be value_dim of the cache");
        require(k.tokens >= 0 && v.tokens == k.tokens, "tokens of v", v.tokens, "must be the tokens of k");
        if constexpr (is_packed<T>) {
            check_size("element of k", k);
            check_size("element of v", v);
        }
    }

    // Packed types hold what fits 16 bits, transformed too.
    template <class X>
    static void check_size(const char* name, const KVView<const X>& x) {
        for (Index h = 0; h < x.heads; ++h) {
            for (Index t = 0; t < x.tokens; ++t) {
                for (Index d = 0; d < x.head_dim; ++d) {
                    const auto value = static_cast<double>(static_cast<C>(x.head(h)(t, d)));
                    require(std::abs(value) <= largest_packed, name, value,
                            "must be finite and within +-1024 to be packed");
                }
            }
        }
    }

    template <class Q>
    void check_queries(const KVView<const Q>& q, Index tokens) const {
        require(q.heads == options_.query_heads, "heads of q", q.heads, "must be query_heads of the cache");
        require(q.head_dim == options_.key_dim, "head_dim of q", q.head_dim, "must be key_dim of the cache");
        require(q.tokens == tokens, "tokens of q", q.tokens, "must be the tokens of k");
    }

    template <class Q, class K, class V, Executor E>
    void append_views(const Q& q, const KVView<const K>& k, const KVView<const V>& v, const E& executor) {
        check(k, v);
        if constexpr (!std::is_same_v<Q, NoQueries>) check_queries(q, k.tokens);
        for_each_piece(k.tokens, [&](Index first, Index count) { write(q, k, v, first, count, executor); }, executor);
    }

    // Appends tokens [first, first + count) of the views, for which there is room.
    template <class Q, class K, class V, Executor E>
    void write([[maybe_unused]] const Q& q, const KVView<const K>& k, const KVView<const V>& v, Index first,
               Index count, const E& executor) {
        if constexpr (grows) {
            for (List& list : lists_) list.grow(count);
        }
        const Index bytes = scratch_bytes();
        std::byte* const scratch = workspace().reserve(executor.concurrency(), bytes);
        const auto write_head = [&](Index h, Index worker) {
            auto* const own = reinterpret_cast<C*>(scratch + worker * Workspace::stride(bytes));
            if constexpr (query_window > 0) queries_.write(h, q, first, count, list(h).counts.tokens_seen);
            lists_[static_cast<std::size_t>(h)].append(k.head(h), v.head(h), first, count, rope_, has_text_positions(),
                                                       own);
        };
        // One token is too little work to hand out.
        if (count == 1) {
            SerialExecutor{}.for_each(options_.kv_heads, write_head);
        } else {
            executor.for_each(options_.kv_heads, write_head);
        }
    }

    bool has_text_positions() const { return options_.positions == Positions::text; }

    // Of the stored keys of head `h`; none if these are the indices.
    std::span<const Index> write_positions(Index h) {
        if (!has_text_positions()) return {};
        const List& of = list(h);
        positions_.resize(lists_.size());
        std::vector<Index>& positions = positions_[static_cast<std::size_t>(h)];
        positions.resize(static_cast<std::size_t>(of.counts.size));
        for (std::size_t i = 0; i < positions.size(); ++i) positions[i] = detail::middle_of(of.ranges()[i]);
        return positions;
    }

    template <Executor E>
    void compress_full_heads(const E& executor) {
        due_.clear();
        packed_.clear();
        for (Index h = 0; h < options_.kv_heads; ++h) {
            const List& full = lists_[static_cast<std::size_t>(h)];
            if (full.counts.size < full.capacity()) continue;
            DueList due;
            due.head = h;
            if constexpr (is_packed<T>) {
                packed_.push_back({full.keys(), full.values(), full.exact_parts()});
            } else {
                due.keys = full.keys();
                due.values = full.values();
            }
            due.compressions = full.counts.compressions;
            due.queries = queries_.window(h, tokens_seen());
            due.ranges = full.ranges();
            due.positions = write_positions(h);
            due.mass = full.mass();
            due.weights = full.weights();
            due.log_weights = full.log_weights();
            due_.push_back(due);
        }
        using Staging = detail::PackedStaging<T>;
        if constexpr (is_packed<T>) Staging::unpack(packed_, due_, workspace(), executor);
        const detail::CompressionSettings<Unpacked<T>> settings{
            options_.layer, options_.sinks, options_.recent, &rope_, has_text_positions(), options_.observer};
        compressor_.compress(std::span<DueList>(due_), settings, workspace(), executor, [&]() noexcept {
            if constexpr (is_packed<T>) Staging::pack(packed_, due_, !has_text_positions(), executor);
            for (const DueList& due : due_) {
                List& compressed = lists_[static_cast<std::size_t>(due.head)];
                compressed.counts.compress(due.size_after);
                if constexpr (is_packed<T>)
                    compressed.counts.packed = compressed.exact_parts().packed_of(due.size_after);
                compressed.find_log_weights();
                compressed.compressed = due.spans;
            }
        });
    }

    // Of each worker that writes entries.
    Index scratch_bytes() const {
        return List::scratch_size(options_.key_dim, options_.value_dim) * static_cast<Index>(sizeof(C));
    }

    Workspace& workspace() { return shared_ != nullptr ? *shared_ : own_; }

    // A growing cache has nothing to compress.
    class NoCompressor {
    public:
        explicit NoCompressor(P policy) : policy_(std::move(policy)) {}
        const P& policy() const { return policy_; }

    private:
        P policy_;
    };
    template <class Policy>
    struct CompressorOf {
        using type = detail::ListCompressor<Unpacked<T>, Policy>;
    };
    template <GrowingPolicy Policy>
    struct CompressorOf<Policy> {
        using type = NoCompressor;
    };

    CacheOptions options_;
    Rope<C> rope_;
    C attention_decay_;
    typename CompressorOf<P>::type compressor_;
    std::vector<List> lists_;  // [kv_heads]
    detail::QueryRing<C> queries_;
    std::vector<DueList> due_;
    std::vector<typename detail::PackedStaging<T>::Rows> packed_;  // of due_, for packed types
    std::vector<std::vector<Index>> positions_;                    // [kv_heads], with Positions::text
    Workspace own_;
    Workspace* shared_;
};

}  // namespace freqkv::inline FREQKV_ISA
