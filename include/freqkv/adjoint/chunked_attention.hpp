// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/adjoint/differentiable_codec.hpp"
#include "freqkv/cache_options.hpp"
#include "freqkv/chunked_attention.hpp"
#include "freqkv/config.hpp"
#include "freqkv/detail/adjoint/attention_adjoint.hpp"
#include "freqkv/detail/adjoint/compression_adjoint.hpp"
#include "freqkv/detail/adjoint/list_history.hpp"
#include "freqkv/detail/adjoint/rope_angles.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// Names what a policy lacks to be differentiated through, in one sentence.
template <class P, class C>
consteval bool check_differentiable() {
    if constexpr (check_policy<P, C>() && !GrowingPolicy<P>) {
        static_assert(!HybridCodec<CodecOf<P>, C>,
                      "freqkv: no gradients go through a policy that keeps some entries and transforms the others");
        static_assert(!MergeCodec<CodecOf<P>, C>, "freqkv: no gradients go through a policy that merges entries");
        static_assert(!reads_attention_mass<CodecOf<P>>() && query_window<CodecOf<P>>() == 0,
                      "freqkv: no gradients go through a policy that reads queries or attention");
        static_assert(DifferentiableCodec<CodecOf<P>, C> || HybridCodec<CodecOf<P>, C> || MergeCodec<CodecOf<P>, C>,
                      "freqkv: to differentiate through this policy, what its codec's plan() returns needs a noexcept "
                      "`void adjoint(const In& in, const Out& out, std::byte* scratch) const`, the transpose of its "
                      "forward()");
    }
    return true;
}

// The adjoint of what a policy does to a full list; nothing for one that grows.
template <class C, class P>
struct AdjointOf {
    using type = CompressionAdjoint<C, CodecOf<P>>;
    static type make(const P& policy) { return type(policy.codec); }
};
template <class C, GrowingPolicy P>
struct AdjointOf<C, P> {
    struct type {
        Index scratch_bytes() const { return 0; }
    };
    static type make(const P&) { return {}; }
};

}  // namespace freqkv::detail::inline FREQKV_ISA

namespace freqkv::inline FREQKV_ISA {

/// Causal attention through a compressing cache, and its gradients: what training through the compression needs
/// of one layer, for one sequence at a time. forward() is ChunkedAttention over a SinkedKVCache, so training
/// computes what inference computes, to the last bit. At each compression it keeps the entries that remain.
/// backward() goes from the last chunk to the first: the softmax is recomputed from the kept entries and the
/// chunk's keys, and the gradient with respect to the kept entries goes through the adjoint of the compression to
/// the chunk before.
///
/// What is differentiated is the computation with the entries that were chosen: selections, the number of entries
/// kept, an allocation among heads, and the weights of entries (CacheOptions::weighted) count as constants.
///
/// C is float or double. A task is a KV head, and no sum depends on who runs it: results are the same for any
/// number of threads. Not to be used from two threads at once. Objects that share a Workspace are not to be used
/// at the same time; the workspace holds nothing between calls. A forward() and a backward() of a text that is
/// not longer than one before it allocate nothing, provided that compressions keep as much.
template <class C, class P>
class DifferentiableAttention {
    static_assert(detail::check_differentiable<P, C>());
    static constexpr bool grows = GrowingPolicy<P>;
    static constexpr bool selects = [] {
        if constexpr (!grows) return SelectionCodec<detail::CodecOf<P>, C>;
        return false;
    }();
    using Adjoint = typename detail::AdjointOf<C, P>::type;

public:
    /// As SinkedKVCache and ChunkedAttention. Throws Error if an option is outside its range or the policy refuses
    /// the layout.
    DifferentiableAttention(const CacheOptions& options, Rope<C> rope, P policy = P{},
                            const AttentionOptions& attention = {}, Workspace* shared = nullptr)
        : shared_(shared),
          adjoint_(detail::AdjointOf<C, P>::make(policy)),
          angles_(rope),
          cache_(options, std::move(rope), std::move(policy), shared),
          attention_(attention),
          scale_(static_cast<C>(attention.scale > 0 ? attention.scale
                                                    : 1 / std::sqrt(static_cast<double>(options.key_dim)))),
          score_cap_(static_cast<C>(attention.score_cap)),
          window_(attention.window > 0 ? attention.window : std::numeric_limits<Index>::max()),
          histories_(static_cast<std::size_t>(cache_.kv_heads())) {}

    const CacheOptions& options() const { return cache_.options(); }

    /// Attention over a whole text, from an empty cache; all un-rotated, with any strides:
    ///   q   [query_heads, tokens, key_dim]       k [kv_heads, tokens, key_dim]
    ///   out [query_heads, tokens, value_dim]     v [kv_heads, tokens, value_dim]
    /// `out` must not overlap q, k or v. Throws Error for other shapes; there is then nothing to go backward from.
    template <Executor E = SerialExecutor>
    void forward(KVView<const C> q, KVView<const C> k, KVView<const C> v, KVView<C> out, const E& executor = {}) {
        begin_text();
        require(q.tokens == k.tokens, "tokens of q", q.tokens, "must be the tokens of k");
        require(v.tokens == k.tokens, "tokens of v", v.tokens, "must be the tokens of k");
        require(out.tokens == q.tokens, "tokens of out", out.tokens, "must be the tokens of q");
        const Index query_heads = cache_.query_heads();
        log_sums_.resize(static_cast<std::size_t>(checked_product("log-sums", query_heads, q.tokens)));
        const MatrixView<C> log_sums(log_sums_.data(), query_heads, q.tokens);
        const auto attend_piece = [&](Index first, Index count) {
            keep_compressed(first);
            attention_.forward(q.middle_tokens(first, count), k.middle_tokens(first, count),
                               v.middle_tokens(first, count), cache_, out.middle_tokens(first, count), executor,
                               log_sums.middle_columns(first, count));
        };
        cache_.for_each_piece(q.tokens, attend_piece, executor);
        tokens_ = q.tokens;
        angles_.cover(has_text_positions() ? 2 * tokens_ : longest_list());
    }

    /// Gradients of a scalar with respect to q, k and v, given its gradient d_out with respect to `out`. q, k, v
    /// and out are those of the latest forward(); d_q, d_k and d_v have the shapes of q, k and v, and are written,
    /// not added to. They must not overlap each other nor anything else. Throws Error for other shapes, before
    /// anything is written. May be called more than once.
    template <Executor E = SerialExecutor>
    void backward(KVView<const C> q, KVView<const C> k, KVView<const C> v, KVView<const C> out, KVView<const C> d_out,
                  KVView<C> d_q, KVView<C> d_k, KVView<C> d_v, const E& executor = {}) {
        check("q", q, cache_.query_heads(), cache_.key_dim());
        check("k", k, cache_.kv_heads(), cache_.key_dim());
        check("v", v, cache_.kv_heads(), cache_.value_dim());
        check("out", out, cache_.query_heads(), cache_.value_dim());
        check("d_out", d_out, cache_.query_heads(), cache_.value_dim());
        check("d_q", d_q, cache_.query_heads(), cache_.key_dim());
        check("d_k", d_k, cache_.kv_heads(), cache_.key_dim());
        check("d_v", d_v, cache_.kv_heads(), cache_.value_dim());
        if (tokens_ == 0) return;
        const Index entries = longest_list();
        const Index bytes = worker_bytes(entries);
        std::byte* const scratch = workspace().reserve(executor.concurrency(), bytes);
        executor.for_each(cache_.kv_heads(), [&](Index h, Index worker) {
            backward_head(h, entries, {q, k, v, out, d_out, d_q, d_k, d_v},
                          WorkspaceCursor(scratch + worker * Workspace::stride(bytes)));
        });
    }

    /// Bytes held: the cache with its scratch and tables, what is kept of the latest text, and the workspace,
    /// which may be shared.
    Index bytes() const {
        Index sum = own_.bytes() + cache_.memory().total() + attention_.scratch_bytes() + angles_.bytes() +
                    static_cast<Index>(log_sums_.capacity() * sizeof(C));
        for (const History& history : histories_) sum += history.bytes();
        return sum;
    }

private:
    using History = detail::ListHistory<C>;
    using Chunk = typename History::Chunk;

    struct Views {
        KVView<const C> q, k, v, out, d_out;
        KVView<C> d_q, d_k, d_v;
    };

    bool has_text_positions() const { return options().positions == Positions::text; }

    // Whether an entry may count more than once: only what a transform makes does.
    bool has_weights() const {
        if constexpr (grows || selects) return false;
        return options().weighted;
    }

    Workspace& workspace() { return shared_ != nullptr ? *shared_ : own_; }

    void begin_text() {
        tokens_ = 0;
        cache_.clear();
        for (History& history : histories_) history.begin_text();
        if constexpr (!grows) adjoint_.drop_if_many();
    }

    // Of the heads that were compressed before token `token`, if any.
    void keep_compressed(Index token) {
        if constexpr (!grows) {
            for (Index h = 0; h < cache_.kv_heads(); ++h) {
                History& history = histories_[static_cast<std::size_t>(h)];
                if (cache_.compressions(h) < static_cast<Index>(history.chunks())) continue;
                history.template add<selects>(cache_, h, token);
                if constexpr (!selects) {
                    const SpanList& spans = cache_.compressed_spans(h);
                    adjoint_.make_plans({spans.begin(), spans.end()});
                }
            }
        }
    }

    Index longest_list() const {
        Index longest = 0;
        for (const History& history : histories_) {
            for (std::size_t c = 0; c < history.chunks(); ++c) {
                longest = std::max(longest, history.entries_at_end(c, tokens_));
            }
        }
        return longest;
    }

    void check(const char* name, const KVView<const C>& view, Index heads, Index dim) const {
        const auto must_be = [&](const char* axis, Index value, Index wanted) {
            if (value == wanted) return;
            refuse((std::string(axis) + " of " + name).c_str(), std::to_string(value),
                   "must be " + std::to_string(wanted) + " as in the latest forward()");
        };
        must_be("heads", view.heads, heads);
        must_be("head_dim", view.head_dim, dim);
        must_be("tokens", view.tokens, tokens_);
    }

    Index worker_bytes(Index entries) const {
        const Index widths = detail::whole_lanes<C>(cache_.key_dim()) + detail::whole_lanes<C>(cache_.value_dim());
        return checked_product("scratch of backward()", 2, entries, widths, sizeof(C)) +
               4 * WorkspaceCursor::size<C>(1) + WorkspaceCursor::size<C>(cache_.key_dim()) +
               Workspace::stride(adjoint_.scratch_bytes()) +
               2 * WorkspaceCursor::size<const C*>(listed_angles(entries)) +
               detail::AttentionAdjoint<C>::bytes(entries, cache_.key_dim(), cache_.value_dim(), has_weights());
    }

    void backward_head(Index h, Index entries, const Views& views, WorkspaceCursor scratch) const {
        const History& history = histories_[static_cast<std::size_t>(h)];
        const Index key_width = detail::whole_lanes<C>(cache_.key_dim());
        const Index value_width = detail::whole_lanes<C>(cache_.value_dim());
        // With respect to the entries as they are stored, at the end of a chunk and of the one before it.
        C* dk = scratch.take<C>(entries * key_width);
        C* dv = scratch.take<C>(entries * value_width);
        C* next_dk = scratch.take<C>(entries * key_width);
        C* next_dv = scratch.take<C>(entries * value_width);
        C* const row = scratch.take<C>(cache_.key_dim());
        std::byte* const compression_scratch = scratch.take<std::byte>(adjoint_.scratch_bytes());
        const C** text_angles = scratch.take<const C*>(listed_angles(entries));
        const C** next_text_angles = scratch.take<const C*>(listed_angles(entries));
        detail::AttentionAdjoint<C> attention(scratch, entries, cache_.key_dim(), cache_.value_dim(), has_weights());
        for (C* const gradient : {dk, next_dk}) std::fill_n(gradient, entries * key_width, C{0});
        for (C* const gradient : {dv, next_dv}) std::fill_n(gradient, entries * value_width, C{0});

        const C* const* angles = angles_of_list(history, history.chunks() - 1, text_angles);
        for (std::size_t c = history.chunks(); c-- > 0;) {
            const Chunk& chunk = history.chunk(c);
            const Index end = history.entries_at_end(c, tokens_);
            load_list(history, chunk, h, end, angles, views, row, attention);
            attend_backward(chunk, h, end, angles, views, attention, dk, dv);
            for (Index e = chunk.entries; e < end; ++e) {
                const Index token = chunk.token + e - chunk.entries;
                const MatrixView<C> d_k = views.d_k.head(h);
                const MatrixView<C> d_v = views.d_v.head(h);
                cache_.rope().template turn<true>(dk + e * key_width, 1, d_k.row(token), d_k.column_stride, angles[e]);
                for (Index d = 0; d < cache_.value_dim(); ++d) d_v(token, d) = dv[e * value_width + d];
            }
            if constexpr (!grows) {
                if (c == 0) break;
                const Index before = history.entries_at_end(c - 1, tokens_);
                const detail::CompressionMap map = history.map(chunk);
                const auto rows = [](C* data, Index count, Index columns, Index stride) {
                    return MatrixView<C>(data, count, columns, stride, 1);
                };
                const C* const* const next_angles = angles_of_list(history, c - 1, next_text_angles);
                adjoint_.keys(
                    map, angles_, rows(dk, chunk.entries, cache_.key_dim(), key_width),
                    rows(next_dk, before, cache_.key_dim(), key_width), compression_scratch,
                    has_text_positions() ? detail::TextAngles<C>{next_angles, angles} : detail::TextAngles<C>{});
                adjoint_.values(map, rows(dv, chunk.entries, cache_.value_dim(), value_width),
                                rows(next_dv, before, cache_.value_dim(), value_width), compression_scratch);
                std::swap(dk, next_dk);
                std::swap(dv, next_dv);
                std::swap(text_angles, next_text_angles);
                angles = next_angles;
            }
        }
    }

    // Entries of a list whose angles have to be listed: at the positions of their indices they stand in a row.
    Index listed_angles(Index entries) const { return has_text_positions() ? entries : 0; }

    // What Rope::angles() gives for each entry of the list as it was at the end of chunk c, written to `text` if it is
    // at the positions of the text. There, what a selection left is not asked for.
    const C* const* angles_of_list(const History& history, std::size_t c, const C** text) const {
        if (!has_text_positions()) return angles_.data();
        const Chunk& chunk = history.chunk(c);
        const C** to = text;
        for (const Index position : history.positions(chunk)) *to++ = angles_[position];
        const Index tokens = history.entries_at_end(c, tokens_) - chunk.entries;
        for (Index t = 0; t < tokens; ++t) text[chunk.entries + t] = angles_[2 * (chunk.token + t)];
        return text;
    }

    // The list as it was at the end of the chunk: what the compression left, and the chunk's own tokens.
    void load_list(const History& history, const Chunk& chunk, Index h, Index end, const C* const* angles,
                   const Views& views, C* row, detail::AttentionAdjoint<C>& attention) const {
        const Index key_dim = cache_.key_dim();
        const Index value_dim = cache_.value_dim();
        for (Index e = 0; e < chunk.entries; ++e) {
            attention.set_key(e, history.key(chunk, e, key_dim));
            attention.set_value(e, history.value(chunk, e, value_dim), 1);
        }
        const MatrixView<const C> k = views.k.head(h);
        const MatrixView<const C> v = views.v.head(h);
        for (Index e = chunk.entries; e < end; ++e) {
            const Index token = chunk.token + e - chunk.entries;
            cache_.rope().turn(k.row(token), k.column_stride, row, 1, angles[e]);
            attention.set_key(e, row);
            attention.set_value(e, v.row(token), v.column_stride);
        }
        if (has_weights()) attention.set_log_weights(history.log_weights(chunk), end);
        attention.finish_list(end);
    }

    // All queries of a chunk: row r being group member r % group of token r / group, as in ChunkedAttention.
    void attend_backward(const Chunk& chunk, Index h, Index end, const C* const* angles, const Views& views,
                         detail::AttentionAdjoint<C>& attention, C* dk, C* dv) const {
        const Index group = cache_.query_heads() / cache_.kv_heads();
        const Index rows = (end - chunk.entries) * group;
        const Rope<C>& rope = cache_.rope();
        constexpr Index max_rows = detail::AttentionAdjoint<C>::max_rows;
        for (Index first = 0; first < rows; first += max_rows) {
            const Index count = std::min(max_rows, rows - first);
            const auto each_row = [&](auto&& f) {
                for (Index r = 0; r < count; ++r) {
                    const Index entry = chunk.entries + (first + r) / group;
                    f(r, h * group + (first + r) % group, chunk.token + entry - chunk.entries, entry);
                }
            };
            each_row([&](Index r, Index head, Index token, Index entry) {
                const MatrixView<const C> q = views.q.head(head);
                C* const query = attention.query(r);
                rope.turn(q.row(token), q.column_stride, query, 1, angles[entry]);
                for (Index d = 0; d < q.columns; ++d) query[d] *= scale_;
                const MatrixView<const C> out = views.out.head(head);
                const MatrixView<const C> d_out = views.d_out.head(head);
                attention.set_result(r, out.row(token), out.column_stride, d_out.row(token), d_out.column_stride,
                                     log_sums_[static_cast<std::size_t>(head * tokens_ + token)]);
            });
            attention.run(count, {chunk.entries, first, group, window_}, score_cap_, dk, dv);
            each_row([&](Index r, Index head, Index token, Index entry) {
                C* const gradient = attention.query_gradient(r);
                for (Index d = 0; d < cache_.key_dim(); ++d) gradient[d] *= scale_;
                const MatrixView<C> d_q = views.d_q.head(head);
                rope.template turn<true>(gradient, 1, d_q.row(token), d_q.column_stride, angles[entry]);
            });
        }
    }

    Workspace own_;
    Workspace* shared_;
    Adjoint adjoint_;
    detail::RopeAngles<C> angles_;
    SinkedKVCache<C, P> cache_;
    ChunkedAttention<C> attention_;
    C scale_;
    C score_cap_;
    Index window_;
    std::vector<History> histories_;  // [kv_heads]
    std::vector<C> log_sums_;         // [query_heads, tokens]
    Index tokens_ = 0;                // of the latest forward()
};

}  // namespace freqkv::inline FREQKV_ISA
