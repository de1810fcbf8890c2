// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "freqkv/config.hpp"
#include "freqkv/detail/attention/partial_attention.hpp"
#include "freqkv/detail/attention/stretches.hpp"
#include "freqkv/detail/attention/tile_attention.hpp"
#include "freqkv/detail/lanes/hadamard.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::inline FREQKV_ISA {

struct AttentionOptions {
    /// Scores are multiplied by it before the softmax; 0: 1 / sqrt(key_dim). YaRN's magnitude belongs here.
    double scale = 0;
    /// Scores become score_cap * tanh(score / score_cap) before the softmax, as in Gemma 2; 0: they stay.
    double score_cap = 0;
    /// A query sees the latest `window` entries of its list, itself included; 0: all. Under a policy that keeps at
    /// least window - 1 of them untouched (LocalWindow without sinks), a token sees exactly the latest `window` tokens.
    Index window = 0;
};

/// Causal attention that drives its cache: fill it, attend, compress, go on. Query i attends to
/// everything in the cache up to and including itself, or the latest of it, at the rotary positions of the cache.
/// Feeding tokens one by one, in chunks or all at once is the same up to rounding, and leaves the cache the same to the
/// last bit.
///
/// T is the element type of q, k, v and the result; the cache may store another. The scores of a chunk
/// are never held as a matrix: scratch does not depend on the context, but for one token's partial
/// sums, and its weights under a policy that reads attention (of which it sums each entry's, in the order of tokens, by
/// one more pass over the keys for each token of a chunk, and for single ones at next to no cost). Cost: one pass over
/// the cache's keys and values for each token, or for each tile of query rows (64 floats with AVX-512) of a chunk. One
/// object serves all layers of a model; not to be used from two threads at once.
template <class T>
class ChunkedAttention {
public:
    /// Throws Error for a negative option, or one that is not finite.
    explicit ChunkedAttention(const AttentionOptions& options = {}) : options_(options) {
        const auto usable = [](double value) { return std::isfinite(value) && value >= 0; };
        require(usable(options.scale), "scale", options.scale, "must be finite and not negative");
        require(usable(options.score_cap), "score_cap", options.score_cap, "must be finite and not negative");
        require(options.window >= 0, "window", options.window, "must not be negative");
    }

    /// Appends k and v to the cache and attends. All un-rotated, with any strides:
    ///   q   [query_heads, tokens, key_dim]       k [kv_heads, tokens, key_dim]
    ///   out [query_heads, tokens, value_dim]     v [kv_heads, tokens, value_dim]
    /// Query head h reads KV head h / (query_heads / kv_heads). `out` must not overlap q, k or v.
    /// `log_sums`, unless it is empty, is [query_heads, tokens] and becomes the logarithm of the sum of each
    /// query's exponentiated scores, which is what a gradient needs to know of the softmax.
    /// Throws Error for other shapes, without change. If the cache's policy throws, the tokens before
    /// that compression are in the cache and their results in `out`; cache.tokens_seen() says how many.
    template <class U, class P, Executor E = SerialExecutor>
    void forward(KVView<const T> q, KVView<const T> k, KVView<const T> v, SinkedKVCache<U, P>& cache, KVView<T> out,
                 const E& executor = {}, MatrixView<T> log_sums = {}) {
        cache.check(k, v);
        cache.check_queries(q, k.tokens);
        require(out.heads == q.heads, "heads of out", out.heads, "must be those of q");
        require(out.tokens == q.tokens, "tokens of out", out.tokens, "must be the tokens of q");
        require(out.head_dim == cache.value_dim(), "head_dim of out", out.head_dim, "must be value_dim of the cache");
        if (log_sums.data != nullptr) {
            require(log_sums.rows == q.heads, "rows of log_sums", log_sums.rows, "must be the heads of q");
            require(log_sums.columns == q.tokens, "columns of log_sums", log_sums.columns, "must be the tokens of q");
        }
        const auto attend_piece = [&](Index first, Index count) {
            cache.write(q, k, v, first, count, executor);
            const KVView<const T> queries = q.middle_tokens(first, count);
            const KVView<T> results = out.middle_tokens(first, count);
            const MatrixView<T> sums = log_sums.data == nullptr ? log_sums : log_sums.middle_columns(first, count);
            if (is_few(count, cache.query_heads() / cache.kv_heads(), detail::TileAttention<Arithmetic<U>>::max_rows)) {
                for (Index t = 0; t < count; ++t) {
                    attend_one(queries.middle_tokens(t, 1), cache, count - 1 - t, results.middle_tokens(t, 1),
                               sums.data == nullptr ? sums : sums.middle_columns(t, 1), executor);
                }
            } else {
                attend_many(queries, cache, results, sums, executor);
                if constexpr (SinkedKVCache<U, P>::has_attention_mass) add_mass(queries, cache, executor);
            }
        };
        cache.for_each_piece(q.tokens, attend_piece, executor);
    }

    /// Bytes of scratch held.
    Index scratch_bytes() const { return workspace_.bytes(); }

private:
    // Multiply-adds below which handing work to other threads costs more than it saves.
    static constexpr Index serial_work = 1 << 16;

    // Whether tokens attend faster one by one than in a tile, which costs the same whether it is full or not. With
    // AVX-512, whose tiles have 64 rows, one token of a group up to 4 takes a tenth of a tile.
    static constexpr bool is_few(Index tokens, Index group, Index tile_rows) {
        return tokens == 1 || tokens * std::max<Index>(group, 4) <= tile_rows / 2;
    }

    template <class C>
    C scale(Index key_dim) const {
        return static_cast<C>(options_.scale > 0 ? options_.scale : 1 / std::sqrt(static_cast<double>(key_dim)));
    }

    // Entries that a query sees at most.
    Index window() const { return options_.window > 0 ? options_.window : std::numeric_limits<Index>::max(); }

    // A query [key_dim] rotated at `position` and scaled, and transformed as keys of the stored type U are, to `to`;
    // `angles` is scratch.
    template <class U, class C>
    void load_query(MatrixView<const T> q, Index token, const Rope<C>& rope, Index position, C* to, C* angles) const {
        rope.turn(q.row(token), q.column_stride, to, 1, rope.angles(position, angles));
        const C factor = scale<C>(q.columns);
        for (Index d = 0; d < q.columns; ++d) to[d] *= factor;
        if constexpr (is_packed<U>) detail::hadamard(to, q.columns);
    }

    // Calls write(row, stride) to have a result [value_dim] written to `to`; of packed values it is transformed back
    // there, by way of `scratch` [value_dim].
    template <class U, class C, class F>
    static auto write_result(T* to, Index stride, Index value_dim, [[maybe_unused]] C* scratch, const F& write) {
        if constexpr (is_packed<U>) {
            const auto given = write(scratch, 1);
            detail::hadamard(scratch, value_dim);
            for (Index d = 0; d < value_dim; ++d) to[d * stride] = static_cast<T>(scratch[d]);
            return given;
        } else {
            return write(to, stride);
        }
    }

    // One token, behind which there are `later` others: keys and values are read once for all query heads of a group,
    // in stretches.
    template <class U, class P, Executor E>
    void attend_one(KVView<const T> q, SinkedKVCache<U, P>& cache, Index later, KVView<T> out, MatrixView<T> log_sums,
                    const E& executor) {
        using C = Arithmetic<U>;
        using Partial = detail::PartialAttention<C>;
        const Index group = cache.query_heads() / cache.kv_heads();
        const Index key_dim = cache.key_dim();
        const Index value_dim = cache.value_dim();
        constexpr Index stretch = Partial::max_keys;
        const auto end_of = [&](Index h) { return cache.size(h) - later; };
        const auto begin_of = [&](Index h) { return std::max<Index>(0, end_of(h) - window()); };
        const auto stretches_of = [&](Index h) {
            return detail::count_stretches(cache.keys(h), begin_of(h), end_of(h), stretch);
        };
        Index longest = 0, stretches = 0;
        for (Index h = 0; h < cache.kv_heads(); ++h) {
            longest = std::max(longest, end_of(h) - begin_of(h));
            stretches = std::max(stretches, stretches_of(h));
        }
        const Index total = cache.kv_heads() * stretches;
        const Index tasks = std::min(total, 8 * static_cast<Index>(executor.concurrency()));
        const Index partial_size = Partial::size(group, value_dim);
        const Index query_stride = detail::whole_lanes<C>(key_dim);
        // Weights of a stretch, which its worker forgets unless each entry's are summed.
        constexpr bool has_mass = SinkedKVCache<U, P>::has_attention_mass;
        const Index weight_pieces = has_mass ? total : static_cast<Index>(executor.concurrency());
        const Index piece_bytes = WorkspaceCursor::size<C>(group * stretch);
        WorkspaceCursor cursor(workspace_.reserve(
            1, WorkspaceCursor::size<C>(cache.query_heads() * query_stride) + WorkspaceCursor::size<C>(key_dim) +
                   WorkspaceCursor::size<C>(total * partial_size) + WorkspaceCursor::size<C>(value_dim) +
                   weight_pieces * piece_bytes));
        C* const queries = cursor.take<C>(cache.query_heads() * query_stride);
        C* const angles = cursor.take<C>(key_dim);
        C* const partials = cursor.take<C>(total * partial_size);
        C* const transformed = cursor.take<C>(value_dim);
        std::byte* const weights = cursor.take<std::byte>(weight_pieces * piece_bytes);
        const auto weights_of = [&](Index piece) { return reinterpret_cast<C*>(weights + piece * piece_bytes); };

        for (Index h = 0; h < cache.kv_heads(); ++h) {
            load_group(q, 0, cache, h, end_of(h), queries + h * group * query_stride, angles);
        }
        // f(keys, values, first) of stretch s of all heads' stretches; nothing behind a head's end.
        const auto with = [&](Index s, const auto& f) {
            const Index h = s / stretches;
            detail::with_stretch(cache.keys(h), cache.values(h), begin_of(h), end_of(h), stretch, s % stretches, f);
        };
        // A few tasks for each worker, of stretches in a row: the next one's keys are fetched ahead.
        const auto attend_stretches = [&](Index task, Index worker) {
            const Index end = (task + 1) * total / tasks;
            for (Index s = task * total / tasks; s < end; ++s) {
                const Index h = s / stretches;
                with(s, [&](const auto& keys, const auto& values, Index first) {
                    auto next = keys.middle_rows(0, 0);
                    if constexpr (!is_packed<U>) {
                        if (s + 1 < end) with(s + 1, [&](const auto& more, const auto&, Index) { next = more; });
                    }
                    const Partial partial(partials + s * partial_size, group, value_dim);
                    partial.attend(queries + h * group * query_stride, keys, values, next,
                                   weights_of(has_mass ? s : worker), static_cast<C>(options_.score_cap),
                                   log_weights_of(cache, h, first));
                });
            }
        };
        if (cache.query_heads() * longest * (key_dim + value_dim) < serial_work) {
            SerialExecutor{}.for_each(tasks, attend_stretches);
        } else {
            executor.for_each(tasks, attend_stretches);
        }
        for (Index h = 0; h < cache.query_heads(); ++h) {
            const Index own = stretches_of(h / group);
            const MatrixView<T> result = out.head(h);
            C* const stretches_of_head = partials + h / group * stretches * partial_size;
            T* const log_sum = log_sums.data == nullptr ? nullptr : log_sums.row(h);
            const C sum =
                write_result<U>(result.data, result.column_stride, value_dim, transformed, [&](auto* to, Index stride) {
                    return Partial::combine(stretches_of_head, own, group, value_dim, h % group, to, stride, log_sum);
                });
            if constexpr (has_mass) {
                if (h % group == 0) fade_mass(cache, h / group, end_of(h / group));
                for (Index i = 0; i < own; ++i) {
                    const Index of_all = h / group * stretches + i;
                    with(of_all, [&](const auto& keys, const auto&, Index first) {
                        Partial(partials + of_all * partial_size, group, value_dim)
                            .add_mass(h % group, sum, weights_of(of_all), keys.rows, mass_of(cache, h / group) + first);
                    });
                }
            }
        }
    }

    // Adds what each token of a chunk that was just appended gives to entries: attend_one() without values, bit for
    // bit.
    template <class U, class P, Executor E>
    void add_mass(KVView<const T> q, SinkedKVCache<U, P>& cache, const E& executor) {
        using C = Arithmetic<U>;
        using Partial = detail::PartialAttention<C>;
        constexpr Index stretch = Partial::max_keys;
        const Index group = cache.query_heads() / cache.kv_heads();
        const Index query_stride = detail::whole_lanes<C>(cache.key_dim());
        Index stretches = 0;
        for (Index h = 0; h < cache.kv_heads(); ++h) {
            stretches = std::max(stretches, detail::count_stretches(cache.keys(h), 0, cache.size(h), stretch) + 1);
        }
        const Index partial_size = Partial::size(group, 0);
        const Index worker_bytes =
            WorkspaceCursor::size<C>(group * query_stride) + WorkspaceCursor::size<C>(cache.key_dim()) +
            WorkspaceCursor::size<C>(stretches * partial_size) + stretches * WorkspaceCursor::size<C>(group * stretch);
        std::byte* const scratch = workspace_.reserve(executor.concurrency(), worker_bytes);
        executor.for_each(cache.kv_heads(), [&](Index h, Index worker) {
            WorkspaceCursor cursor(scratch + worker * Workspace::stride(worker_bytes));
            C* const queries = cursor.take<C>(group * query_stride);
            C* const angles = cursor.take<C>(cache.key_dim());
            C* const partials = cursor.take<C>(stretches * partial_size);
            C* const weights = cursor.take<C>(stretches * group * stretch);
            for (Index t = 0; t < q.tokens; ++t) {
                const Index end = cache.size(h) - q.tokens + 1 + t;
                const Index begin = std::max<Index>(0, end - window());
                const Index own = detail::count_stretches(cache.keys(h), begin, end, stretch);
                const auto for_each_stretch = [&](const auto& f) {
                    for (Index i = 0; i < own; ++i) {
                        detail::with_stretch(cache.keys(h), cache.values(h), begin, end, stretch, i,
                                             [&](const auto& keys, const auto&, Index first) {
                                                 f(Partial(partials + i * partial_size, group, 0), keys,
                                                   weights + i * group * stretch, first);
                                             });
                    }
                };
                load_group(q, t, cache, h, end, queries, angles);
                for_each_stretch(
                    [&]<class K>(const Partial& partial, const MatrixView<const K>& keys, C* to, Index first) {
                        partial.weigh(queries, keys, MatrixView<const K>(nullptr, keys.rows, 0), to,
                                      static_cast<C>(options_.score_cap), log_weights_of(cache, h, first));
                    });
                fade_mass(cache, h, end);
                for (Index g = 0; g < group; ++g) {
                    const C sum = Partial::make_factors(partials, own, group, 0, g).sum;
                    for_each_stretch([&](const Partial& partial, const auto& keys, const C* of, Index first) {
                        partial.add_mass(g, sum, of, keys.rows, mass_of(cache, h) + first);
                    });
                }
            }
        });
    }

    template <class U, class P>
    static Arithmetic<U>* mass_of(SinkedKVCache<U, P>& cache, Index h) {
        return cache.lists_[static_cast<std::size_t>(h)].mass();
    }

    // What the weights of head `h`'s entries from `first` on add to scores; null if nothing.
    template <class U, class P>
    static const Arithmetic<U>* log_weights_of(const SinkedKVCache<U, P>& cache, Index h, Index first) {
        const Arithmetic<U>* const all = cache.lists_[static_cast<std::size_t>(h)].log_weights();
        return all == nullptr ? nullptr : all + first;
    }

    // What `entries` entries were given before is worth less with each token.
    template <class U, class P>
    static void fade_mass(SinkedKVCache<U, P>& cache, Index h, Index entries) {
        if (cache.attention_decay_ == 1) return;
        Arithmetic<U>* const mass = mass_of(cache, h);
        for (Index i = 0; i < entries; ++i) mass[i] *= cache.attention_decay_;
    }

    // The queries of a KV head's group of which the last key they see is the list's entry visible - 1, rotated, scaled
    // and 0 behind key_dim, to `to` [group, whole_lanes(key_dim)].
    template <class U, class P, class C>
    void load_group(KVView<const T> q, Index token, const SinkedKVCache<U, P>& cache, Index h, Index visible, C* to,
                    C* angles) const {
        const Index group = cache.query_heads() / cache.kv_heads();
        const Index stride = detail::whole_lanes<C>(cache.key_dim());
        for (Index g = 0; g < group; ++g) {
            C* const query = to + g * stride;
            load_query<U>(q.head(h * group + g), token, cache.rope(), cache.position_of(h, visible - 1), query, angles);
            std::fill(query + cache.key_dim(), query + stride, C{0});
        }
    }

    // Tokens that were just appended: tiles of rows, row r being group member r % group of token r / group.
    template <class U, class P, Executor E>
    void attend_many(KVView<const T> q, const SinkedKVCache<U, P>& cache, KVView<T> out, MatrixView<T> log_sums,
                     const E& executor) {
        using C = Arithmetic<U>;
        using Tile = detail::TileAttention<C>;
        const Index group = cache.query_heads() / cache.kv_heads();
        const Index rows = q.tokens * group;
        const Index tiles = (rows + Tile::max_rows - 1) / Tile::max_rows;
        const Index tile_size = Tile::size(cache.key_dim(), cache.value_dim());
        const Index worker_bytes =
            WorkspaceCursor::size<C>(tile_size + std::max(2 * cache.key_dim(), cache.value_dim()));
        std::byte* const scratch = workspace_.reserve(executor.concurrency(), worker_bytes);
        executor.for_each(cache.kv_heads() * tiles, [&](Index task, Index worker) {
            const Index h = task / tiles;
            const Index first = (tiles - 1 - task % tiles) * Tile::max_rows;  // the longest first
            const Index count = std::min(Tile::max_rows, rows - first);
            const Index base = cache.size(h) - q.tokens;
            auto* const tile_scratch = reinterpret_cast<C*>(scratch + worker * worker_bytes);
            C* const query = tile_scratch + tile_size;
            Tile tile(tile_scratch, count, cache.key_dim(), cache.value_dim());
            for (Index r = 0; r < count; ++r) {
                const Index token = (first + r) / group;
                load_query<U>(q.head(h * group + (first + r) % group), token, cache.rope(),
                              cache.position_of(h, base + token), query, query + cache.key_dim());
                tile.set_query(r, query);
            }
            tile.attend(cache.keys(h), cache.values(h), {base, first, group, window()},
                        static_cast<C>(options_.score_cap), log_weights_of(cache, h, 0));
            for (Index r = 0; r < count; ++r) {
                const Index query_head = h * group + (first + r) % group;
                const Index token = (first + r) / group;
                const MatrixView<T> result = out.head(query_head);
                write_result<U>(result.row(token), result.column_stride, cache.value_dim(), query,
                                [&](auto* to, Index stride) {
                                    tile.store(r, to, stride);
                                    return 0;
                                });
                if (log_sums.data != nullptr) log_sums(query_head, token) = static_cast<T>(tile.log_sum(r));
            }
        });
    }

    AttentionOptions options_;
    Workspace workspace_;
};

}  // namespace freqkv::inline FREQKV_ISA
