// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/squeezer.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv {

/// The shape of one layer's cache. The defaults for sinks and recent part are the paper's.
struct CacheOptions {
    Index layer = 0;                       ///< for reports only
    Index kv_heads = 0;                    ///< >= 1
    Index query_heads = 0;                 ///< a multiple of kv_heads (grouped queries); 0: kv_heads
    Index key_dim = 0;                     ///< >= 1
    Index value_dim = 0;                   ///< >= 1; 0: key_dim
    Index capacity = 0;                    ///< entries of each head; a growing cache takes it as a first size
    Index sinks = 4;                       ///< first entries, kept as they are
    Index recent = 0;                      ///< latest entries, kept as they are at a compression
    std::vector<Index> head_capacities{};  ///< one for each KV head instead of `capacity`; empty: all alike
    Observer observer{};
};

/// What a cache holds, in bytes. `scratch` and `tables` may be shared with other caches.
struct CacheMemory {
    Index keys = 0;
    Index values = 0;
    Index bookkeeping = 0;  ///< token ranges and the query window
    Index scratch = 0;      ///< the workspace
    Index tables = 0;       ///< rotary angles

    Index entries() const { return keys + values; }
    Index total() const { return keys + values + bookkeeping + scratch + tables; }
};

/// The keys and values of one layer, bounded by compression: when a head is full and a further token
/// arrives, the policy squeezes what lies between its sinks and its recent part. Each KV head is a list
/// of its own, with its own capacity, size and number of compressions; boundaries depend on the number
/// of tokens seen and on nothing else, so that any chunking of the same text leaves bit-identical
/// entries.
///
/// T, the storage type, is float, double, Eigen::half or Eigen::bfloat16 (or any 16-bit type that
/// converts from and to float); arithmetic is in Arithmetic<T>. Keys are stored rotated at their index.
///
/// Not to be used from two threads at once. Caches that share a Workspace are not to be used at the same
/// time; apart from that, different caches are independent. A copy is a fork: it has the same entries
/// and goes on by itself (with the same shared workspace, if there is one).
template <class T, class P>
class SinkedKVCache {
    static_assert(detail::check_policy<P, T>());

    static constexpr bool grows = GrowingPolicy<P>;

    template <bool Grows>
    static constexpr Index window_of() {
        if constexpr (Grows) {
            return 0;
        } else {
            return freqkv::query_window<std::remove_cvref_t<decltype(std::declval<P&>().codec)>>();
        }
    }

public:
    using C = Arithmetic<T>;

    /// The queries of the latest tokens that the policy's codec reads; 0 for most.
    static constexpr Index query_window = window_of<grows>();

    /// Allocates everything the entries need. `rope` is for key_dim; give it a table of `capacity`
    /// positions, and share it among layers. `shared`, if given, must outlive the cache.
    /// Throws Error if an option is outside its range or the policy refuses the layout.
    SinkedKVCache(const CacheOptions& options, Rope<C> rope, P policy = P{}, Workspace* shared = nullptr)
        : options_(options), rope_(std::move(rope)), squeezer_(std::move(policy)), shared_(shared) {
        complete_and_check(options_);
        require(rope_.head_dim() == options_.key_dim, "head_dim of the rope", rope_.head_dim(),
                "must be key_dim of the cache");
        for (Index h = 0; h < options_.kv_heads; ++h) {
            const Index capacity = options_.head_capacities.empty()
                                       ? options_.capacity
                                       : options_.head_capacities[static_cast<std::size_t>(h)];
            if constexpr (!grows) {
                require(capacity > options_.sinks && capacity - options_.sinks > options_.recent, "capacity", capacity,
                        "must be at least sinks + recent + 2");
                squeezer_.prepare({capacity, options_.sinks, options_.recent});
            }
            heads_.emplace_back(capacity, options_.key_dim, options_.value_dim);
        }
        due_.reserve(heads_.size());
        queries_ = AlignedBuffer<C>(
            checked_product("query window size", query_window, options_.query_heads, options_.key_dim));
    }

    const CacheOptions& options() const { return options_; }
    const Rope<C>& rope() const { return rope_; }
    Index kv_heads() const { return options_.kv_heads; }
    Index query_heads() const { return options_.query_heads; }
    Index key_dim() const { return options_.key_dim; }
    Index value_dim() const { return options_.value_dim; }

    /// Tokens fed since construction or clear(), less those taken back by truncate().
    Index tokens_seen() const { return tokens_seen_; }
    /// Entries that head `h` holds now.
    Index size(Index h = 0) const { return head(h).size; }
    Index capacity(Index h = 0) const { return head(h).capacity; }
    Index compressions(Index h = 0) const { return head(h).compressions; }

    /// Tokens that can be appended before a head has to be compressed; 0 if one is full. A growing cache
    /// has room for any number.
    Index room() const {
        Index least = std::numeric_limits<Index>::max();
        if constexpr (!grows) {
            for (const Head& head : heads_) least = std::min(least, head.capacity - head.size);
        }
        return least;
    }

    /// The position of the next token's key and query in head `h`, provided that room() > 0 (call
    /// prepare() first).
    Index next_position(Index h = 0) const { return size(h); }

    /// The stored keys of head `h`, [size(h), key_dim], row i rotated at position i. Valid until the
    /// next change.
    MatrixView<const T> keys(Index h) const { return {head(h).keys.data(), head(h).size, options_.key_dim}; }
    /// The stored values of head `h`, [size(h), value_dim].
    MatrixView<const T> values(Index h) const { return {head(h).values.data(), head(h).size, options_.value_dim}; }

    /// The tokens that entry i of head h stands for: itself before any compression; afterwards those of
    /// the entries it was made from (for a low-pass: the part of the span around its place).
    TokenRange entry_tokens(Index h, Index i) const {
        require(i >= 0 && i < size(h), "entry", i, "must be within the head's size");
        return head(h).ranges.data()[i];
    }

    /// Appends tokens, compressing whenever a head is full and a further one comes. k is [kv_heads,
    /// tokens, key_dim] and v [kv_heads, tokens, value_dim], un-rotated, with any strides and element
    /// type (KVView, or anything shaped like a rank-3 Eigen Tensor).
    /// Throws Error for other shapes, without change. If the policy throws, the tokens before that
    /// compression remain, and tokens_seen() says how many.
    template <class K, class V, Executor E = SerialExecutor>
    void append(const K& k, const V& v, const E& executor = {}) {
        static_assert(query_window == 0, "freqkv: this policy reads queries; append(q, k, v) them too");
        append_views(KVView<const C>{}, const_view(k), const_view(v), executor);
    }

    /// The same for policies that read queries: q is [query_heads, tokens, key_dim], un-rotated.
    template <class Q, class K, class V, Executor E = SerialExecutor>
        requires(!Executor<V>)
    void append(const Q& q, const K& k, const V& v, const E& executor = {}) {
        const auto queries = const_view(q);
        require(queries.heads == options_.query_heads, "heads of q", queries.heads, "must be query_heads of the cache");
        require(queries.head_dim == options_.key_dim, "head_dim of q", queries.head_dim,
                "must be key_dim of the cache");
        append_views(queries, const_view(k), const_view(v), executor);
    }

    /// Compresses now every head that is full, in idle time; the state is what the next token would have
    /// made. Says whether there was anything to do. If the policy throws, nothing has changed.
    template <Executor E = SerialExecutor>
    bool prepare(const E& executor = {}) {
        if (room() > 0) return false;
        if constexpr (!grows) compress_full_heads(executor);
        return true;
    }

    /// Keeps the first `tokens` tokens seen; every continuation is then bit-identical to never having
    /// seen the others. Not below the count at the latest compression of any head: throws Error.
    void truncate(Index tokens) {
        Index earliest = 0;
        for (const Head& head : heads_) earliest = std::max(earliest, head.compressed_at);
        require(tokens >= earliest && tokens <= tokens_seen_, "tokens to keep", tokens,
                "must not be above tokens_seen() nor below earliest_truncation()");
        for (Head& head : heads_) head.size -= tokens_seen_ - tokens;
        tokens_seen_ = tokens;
    }

    /// The least that truncate() takes: tokens seen at the latest compression, 0 before the first.
    Index earliest_truncation() const {
        Index earliest = 0;
        for (const Head& head : heads_) earliest = std::max(earliest, head.compressed_at);
        return earliest;
    }

    /// As after construction; keeps the memory.
    void clear() {
        for (Head& head : heads_) head.size = head.compressions = head.compressed_at = 0;
        tokens_seen_ = 0;
    }

    CacheMemory memory() const {
        CacheMemory memory;
        for (const Head& head : heads_) {
            memory.keys += head.keys.bytes();
            memory.values += head.values.bytes();
            memory.bookkeeping += head.ranges.bytes();
        }
        memory.bookkeeping += queries_.bytes();
        memory.scratch = (shared_ != nullptr ? *shared_ : own_).bytes();
        memory.tables = rope_.table_bytes();
        return memory;
    }

private:
    struct Head {
        AlignedBuffer<T> keys;             // [capacity, key_dim]
        AlignedBuffer<T> values;           // [capacity, value_dim]
        AlignedBuffer<TokenRange> ranges;  // [capacity]
        Index capacity;
        Index size = 0;
        Index compressions = 0;
        Index compressed_at = 0;  // tokens seen at the latest compression

        Head(Index capacity_, Index key_dim, Index value_dim)
            : keys(checked_product("key storage", capacity_, key_dim)),
              values(checked_product("value storage", capacity_, value_dim)),
              ranges(capacity_),
              capacity(capacity_) {}
    };

    static void complete_and_check(CacheOptions& o) {
        require(o.kv_heads >= 1, "kv_heads", o.kv_heads, "must be at least 1");
        if (o.query_heads == 0) o.query_heads = o.kv_heads;
        require(o.query_heads > 0 && o.query_heads % o.kv_heads == 0, "query_heads", o.query_heads,
                "must be a multiple of kv_heads");
        require(o.key_dim >= 1, "key_dim", o.key_dim, "must be at least 1");
        if (o.value_dim == 0) o.value_dim = o.key_dim;
        require(o.value_dim >= 1, "value_dim", o.value_dim, "must be at least 1");
        require(o.capacity >= 0, "capacity", o.capacity, "must not be negative");
        require(o.sinks >= 0, "sinks", o.sinks, "must not be negative");
        require(o.recent >= 0, "recent", o.recent, "must not be negative");
        const auto capacities = static_cast<Index>(o.head_capacities.size());
        require(capacities == 0 || capacities == o.kv_heads, "number of head_capacities", capacities,
                "must be 0 or kv_heads");
    }

    const Head& head(Index h) const {
        require(h >= 0 && h < options_.kv_heads, "head", h, "must be within kv_heads");
        return heads_[static_cast<std::size_t>(h)];
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

    template <class Q, class K, class V, Executor E>
    void append_views(KVView<const Q> q, KVView<const K> k, KVView<const V> v, const E& executor) {
        require(k.heads == options_.kv_heads, "heads of k", k.heads, "must be kv_heads of the cache");
        require(v.heads == options_.kv_heads, "heads of v", v.heads, "must be kv_heads of the cache");
        require(k.head_dim == options_.key_dim, "head_dim of k", k.head_dim, "must be key_dim of the cache");
        require(v.head_dim == options_.value_dim, "head_dim of v", v.head_dim, "must be value_dim of the cache");
        require(k.tokens >= 0 && v.tokens == k.tokens, "tokens of v", v.tokens, "must be the tokens of k");
        require(query_window == 0 || q.tokens == k.tokens, "tokens of q", q.tokens, "must be the tokens of k");
        for (Index done = 0; done < k.tokens;) {
            if constexpr (!grows) {
                if (room() == 0) compress_full_heads(executor);
            }
            const Index count = std::min(room(), k.tokens - done);
            if constexpr (grows) grow(count);
            write(q, k, v, done, count, executor);
            done += count;
        }
    }

    // Appends tokens [first, first + count) of the views, for which there is room.
    template <class Q, class K, class V, Executor E>
    void write(KVView<const Q> q, KVView<const K> k, KVView<const V> v, Index first, Index count, const E& executor) {
        const Index angle_bytes = 2 * rope_.pairs() * static_cast<Index>(sizeof(C));
        std::byte* const scratch = workspace().reserve(executor.concurrency(), angle_bytes);
        const auto write_head = [&](Index h, Index worker) {
            auto* const angles = reinterpret_cast<C*>(scratch + worker * Workspace::stride(angle_bytes));
            write_queries(h, q, first, count);
            write_entries(heads_[static_cast<std::size_t>(h)], k.head(h), v.head(h), first, count, angles);
        };
        // One token is too little work to hand out.
        if (count == 1) {
            SerialExecutor{}.for_each(options_.kv_heads, write_head);
        } else {
            executor.for_each(options_.kv_heads, write_head);
        }
        tokens_seen_ += count;
    }

    template <class K, class V>
    void write_entries(Head& head, MatrixView<const K> k, MatrixView<const V> v, Index first, Index count, C* angles) {
        for (Index t = 0; t < count; ++t) {
            const Index entry = head.size + t;
            rope_.turn(k.row(first + t), k.column_stride, head.keys.data() + entry * options_.key_dim, 1,
                       rope_.angles(entry, angles));
            T* const value = head.values.data() + entry * options_.value_dim;
            for (Index d = 0; d < options_.value_dim; ++d) value[d] = static_cast<T>(static_cast<C>(v(first + t, d)));
            head.ranges.data()[entry] = {tokens_seen_ + t, tokens_seen_ + t + 1};
        }
        head.size += count;
    }

    // The ring is indexed by token. truncate(n) needs no more than that: the next compression of a head
    // comes at the same count c as before, and what it needs of the tokens before n, those from c -
    // query_window on, cannot have been overwritten by tokens before c.
    template <class Q>
    void write_queries(Index h, KVView<const Q> q, Index first, Index count) {
        if constexpr (query_window > 0) {
            const Index group = options_.query_heads / options_.kv_heads;
            for (Index t = std::max<Index>(0, count - query_window); t < count; ++t) {
                for (Index g = 0; g < group; ++g) {
                    const MatrixView<const Q> rows = q.head(h * group + g);
                    C* const to =
                        queries_.data() +
                        ((h * query_window + (tokens_seen_ + t) % query_window) * group + g) * options_.key_dim;
                    for (Index d = 0; d < options_.key_dim; ++d) to[d] = static_cast<C>(rows(first + t, d));
                }
            }
        }
    }

    template <Executor E>
    void compress_full_heads(const E& executor) {
        due_.clear();
        const Index group = options_.query_heads / options_.kv_heads;
        for (Index h = 0; h < options_.kv_heads; ++h) {
            Head& full = heads_[static_cast<std::size_t>(h)];
            if (full.size < full.capacity) continue;
            detail::DueList<T> list;
            list.head = h;
            list.keys = {full.keys.data(), full.size, options_.key_dim};
            list.values = {full.values.data(), full.size, options_.value_dim};
            list.compressions = full.compressions;
            list.queries = {queries_.data() + h * query_window * group * options_.key_dim, query_window, group,
                            options_.key_dim, tokens_seen_};
            list.ranges = full.ranges.data();
            due_.push_back(list);
        }
        const detail::SqueezeSettings<T> settings{options_.layer,   options_.sinks, options_.recent, &rope_, {},
                                                  options_.observer};
        squeezer_.squeeze(std::span<detail::DueList<T>>(due_), settings, workspace(), executor, [&]() noexcept {
            for (const detail::DueList<T>& list : due_) {
                Head& squeezed = heads_[static_cast<std::size_t>(list.head)];
                squeezed.size = list.size_after;
                squeezed.compressed_at = tokens_seen_;
                ++squeezed.compressions;
            }
        });
    }

    // Makes room for `count` further tokens, doubling so that the cost per token stays constant.
    void grow(Index count) {
        for (Head& old : heads_) {
            if (old.capacity - old.size >= count) continue;
            constexpr Index first_capacity = 256;
            Head grown(std::max({first_capacity, 2 * old.capacity, old.size + count}), options_.key_dim,
                       options_.value_dim);
            std::copy_n(old.keys.data(), old.size * options_.key_dim, grown.keys.data());
            std::copy_n(old.values.data(), old.size * options_.value_dim, grown.values.data());
            std::copy_n(old.ranges.data(), old.size, grown.ranges.data());
            grown.size = old.size;
            old = std::move(grown);
        }
    }

    Workspace& workspace() { return shared_ != nullptr ? *shared_ : own_; }

    // A growing cache has nothing to squeeze; it only keeps the policy's type.
    struct NoSqueezer {
        explicit NoSqueezer(P) {}
    };
    template <bool Grows, class Q>
    struct SqueezerOf {
        using type = detail::Squeezer<T, Q>;
    };
    template <class Q>
    struct SqueezerOf<true, Q> {
        using type = NoSqueezer;
    };

    CacheOptions options_;
    Rope<C> rope_;
    typename SqueezerOf<grows, P>::type squeezer_;
    std::vector<Head> heads_;
    AlignedBuffer<C> queries_;  // [kv_heads, query_window, group, key_dim]
    std::vector<detail::DueList<T>> due_;
    Index tokens_seen_ = 0;
    Workspace own_;
    Workspace* shared_;
};

}  // namespace freqkv
