// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "freqkv/view.hpp"
#include "naive.hpp"
#include "naive_cache.hpp"
#include "same_entries.hpp"

// What a cache under a policy has to do, once more over plain vectors, and the comparison of the two.
namespace freqkv::testing_model {

// A policy put together from its parts.
template <class S, class K>
struct Of {
    S schedule;
    K codec;
};
template <class S, class K, class A>
struct OfThree {
    S schedule;
    K codec;
    A allocation;
};

// What one layer is fed: un-rotated queries, keys and values, token-major as projections write them.
// Heads differ in size, so that what depends on the data differs between them.
struct Text {
    Index query_heads = 4;
    Index kv_heads = 2;
    Index tokens = 0;
    Index key_dim = 8;
    Index value_dim = 6;
    std::vector<float> q, k, v;

    static Text random(Index tokens, Index kv_heads = 2, std::uint64_t seed = 1) {
        Text text;
        text.query_heads = 2 * kv_heads;
        text.kv_heads = kv_heads;
        text.tokens = tokens;
        naive::Random next(seed);
        const auto fill = [&](std::vector<float>& x, Index heads, Index dim) {
            for (Index i = 0; i < tokens * heads * dim; ++i) {
                const Index head = i / dim % heads;
                x.push_back(static_cast<float>(next() * (1 + 0.5 * static_cast<double>(head))));
            }
        };
        fill(text.q, text.query_heads, text.key_dim);
        fill(text.k, kv_heads, text.key_dim);
        fill(text.v, kv_heads, text.value_dim);
        return text;
    }

    KVView<const float> queries(Index first, Index count) const { return part(q, query_heads, key_dim, first, count); }
    KVView<const float> keys(Index first, Index count) const { return part(k, kv_heads, key_dim, first, count); }
    KVView<const float> values(Index first, Index count) const { return part(v, kv_heads, value_dim, first, count); }

private:
    KVView<const float> part(const std::vector<float>& x, Index heads, Index dim, Index first, Index count) const {
        return KVView<const float>::token_major(x.data(), heads, tokens, dim).middle_tokens(first, count);
    }
};

// The rotation that all caches here are given: partial, so that a key has both kinds of columns.
inline RopeOptions rope_options(const Text& text) {
    return {.head_dim = text.key_dim, .rotated_dims = text.key_dim - 2, .base = 500};
}
inline naive::Rotary naive_rotary(const Text& text) {
    return {.rotated_dims = static_cast<std::size_t>(text.key_dim - 2), .base = 500};
}

inline CacheOptions cache_options(const Text& text, Index capacity, Index sinks, Index recent) {
    return {.kv_heads = text.kv_heads,
            .query_heads = text.query_heads,
            .key_dim = text.key_dim,
            .value_dim = text.value_dim,
            .capacity = capacity,
            .sinks = sinks,
            .recent = recent};
}

template <class T, class P>
SinkedKVCache<T, P> make_cache(const Text& text, const CacheOptions& options, const P& policy) {
    using Turn = Rope<Arithmetic<T>>;
    const bool of_text = options.positions == Positions::text;
    // A table that ends within the text, as one of indices ends where the cache does.
    return SinkedKVCache<T, P>(options,
                               of_text ? Turn(rope_options(text)).in_half_steps(2 * options.capacity)
                                       : Turn(rope_options(text), options.capacity),
                               policy);
}

// The naive cache of a text.
struct ModelCache : naive::Cache {
    ModelCache(const Text& text, Index capacity, Compress compress)
        : Cache(text.kv_heads, capacity, naive_rotary(text), std::move(compress)) {}

    void append(const Text& text, Index token) {
        Cache::append(rows(text.keys(token, 1)), rows(text.values(token, 1)), rows(text.queries(token, 1)));
    }

private:
    // Of one token, a row for each head.
    static naive::Rows rows(const KVView<const float>& x) {
        naive::Rows result;
        for (Index h = 0; h < x.heads; ++h) result.push_back(naive::row(x.head(h), 0));
        return result;
    }
};

// Tokens [first, first + count) into the cache; through attention if the policy reads it.
template <class T, class P, Executor E = SerialExecutor>
void append(SinkedKVCache<T, P>& cache, const Text& text, Index first, Index count, const E& executor = {}) {
    if constexpr (SinkedKVCache<T, P>::has_attention_mass) {
        std::vector<float> out(static_cast<std::size_t>(count * text.query_heads * text.value_dim));
        ChunkedAttention<float>().forward(
            text.queries(first, count), text.keys(first, count), text.values(first, count), cache,
            KVView<float>::token_major(out.data(), text.query_heads, count, text.value_dim), executor);
    } else if constexpr (SinkedKVCache<T, P>::query_window > 0) {
        cache.append(text.queries(first, count), text.keys(first, count), text.values(first, count), executor);
    } else {
        cache.append(text.keys(first, count), text.values(first, count), executor);
    }
}

// The same through attention; the result is [tokens, query_heads, value_dim].
template <class T, class P>
void attend(SinkedKVCache<T, P>& cache, const Text& text, Index first, Index count, std::vector<float>& out) {
    out.resize(static_cast<std::size_t>(text.tokens * text.query_heads * text.value_dim));
    const auto view = KVView<float>::token_major(out.data(), text.query_heads, text.tokens, text.value_dim);
    ChunkedAttention<float> attention;
    attention.forward(text.queries(first, count), text.keys(first, count), text.values(first, count), cache,
                      view.middle_tokens(first, count));
}

// Every entry, up to `tolerance`.
template <class P>
void expect_contents(const SinkedKVCache<float, P>& cache, const ModelCache& model, double tolerance) {
    for (std::size_t h = 0; h < model.heads.size(); ++h) {
        const naive::Head& head = model.heads[h];
        const auto index = static_cast<Index>(h);
        for (std::size_t i = 0; i < head.size(); ++i) {
            const auto entry = static_cast<Index>(i);
            const naive::Row key = model.stored_key(h, i);
            for (std::size_t d = 0; d < key.size(); ++d) {
                ASSERT_NEAR(cache.keys(index)(entry, static_cast<Index>(d)), key[d], tolerance)
                    << "key of head " << h << ", entry " << i << ", dimension " << d;
            }
            for (std::size_t d = 0; d < head.values[i].size(); ++d) {
                ASSERT_NEAR(cache.values(index)(entry, static_cast<Index>(d)), head.values[i][d], tolerance)
                    << "value of head " << h << ", entry " << i << ", dimension " << d;
            }
            ASSERT_EQ(cache.entry_tokens(index, entry).begin, head.first_token[i])
                << "first token that entry " << i << " of head " << h << " stands for";
            ASSERT_EQ(cache.entry_tokens(index, entry).end, head.last_token[i] + 1)
                << "last token that entry " << i << " of head " << h << " stands for";
        }
    }
}

// Token by token through attention, the cache must be the model's at every step, head by head, and the
// results those of a naive attention over the model.
template <class P>
void expect_as_model(const P& policy, const CacheOptions& options, const Text& text, ModelCache& model) {
    auto cache = make_cache<float>(text, options, policy);
    std::vector<float> out;
    for (Index t = 0; t < text.tokens; ++t) {
        attend(cache, text, t, 1, out);
        model.append(text, t);
        SCOPED_TRACE("after token " + std::to_string(t));
        ASSERT_EQ(cache.tokens_seen(), t + 1);
        for (std::size_t h = 0; h < model.heads.size(); ++h) {
            const auto head = static_cast<Index>(h);
            ASSERT_EQ(cache.size(head), static_cast<Index>(model.heads[h].size())) << "entries of head " << h;
            ASSERT_EQ(cache.compressions(head), model.heads[h].compressions) << "compressions of head " << h;
        }
        const naive::Rows want = model.attended();
        for (Index h = 0; h < text.query_heads; ++h) {
            for (Index d = 0; d < text.value_dim; ++d) {
                ASSERT_NEAR(out[static_cast<std::size_t>((t * text.query_heads + h) * text.value_dim + d)],
                            want[static_cast<std::size_t>(h)][static_cast<std::size_t>(d)], 2e-5)
                    << "attention of query head " << h << ", dimension " << d;
            }
        }
        if (t % 50 == 49 || t + 1 == text.tokens) {
            ASSERT_NO_FATAL_FAILURE(expect_contents(cache, model, 2e-5));
        }
    }
}

// Whole, or in chunks, with attention or without: the entries are the same to the last bit, and the
// results of attention up to rounding.
template <class T, class P>
void expect_chunks_agree(const P& policy, const CacheOptions& options, const Text& text) {
    auto whole = make_cache<T>(text, options, policy);
    append(whole, text, 0, text.tokens);
    std::vector<float> results;
    for (const Index chunk : {text.tokens, Index{1}, Index{7}, Index{333}}) {
        SCOPED_TRACE("fed in chunks of " + std::to_string(chunk));
        auto fed = make_cache<T>(text, options, policy);
        auto attended = make_cache<T>(text, options, policy);
        std::vector<float> out;
        for (Index done = 0; done < text.tokens; done += chunk) {
            const Index count = std::min(chunk, text.tokens - done);
            append(fed, text, done, count);
            attend(attended, text, done, count, out);
        }
        ASSERT_NO_FATAL_FAILURE(test::expect_identical(fed, whole));
        ASSERT_NO_FATAL_FAILURE(test::expect_identical(attended, whole));
        if (results.empty()) results = out;
        ASSERT_THAT(out, testing::Pointwise(testing::FloatNear(1e-5F), results));
    }
}

}  // namespace freqkv::testing_model
