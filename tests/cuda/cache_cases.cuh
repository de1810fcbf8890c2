// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "random_tokens.hpp"

namespace freqkv::cuda::cache_test {

inline constexpr Index kv_heads = 2;
inline constexpr Index query_heads = 6;
inline constexpr Index key_dim = 8;
inline constexpr Index value_dim = 12;
inline constexpr Index capacity = 150;  // more than a stretch of attention
inline constexpr Index sinks = 3;
inline constexpr Index recent = 20;

inline const CacheOptions options{.sequences = 3,
                                  .kv_heads = kv_heads,
                                  .query_heads = query_heads,
                                  .key_dim = key_dim,
                                  .value_dim = value_dim,
                                  .capacity = capacity,
                                  .sinks = sinks,
                                  .recent = recent};
inline const RopeOptions rope_options{
    .head_dim = key_dim, .rotated_dims = 6, .base = 5000, .pairing = RopePairing::half_split};
inline const naive::Rotary rotary{6, 5000, false};

// A text: queries, keys and values of its tokens, token-major, on the host.
struct Text {
    explicit Text(Index tokens_, unsigned seed)
        : tokens(tokens_),
          q(query_heads, tokens, key_dim, seed),
          k(kv_heads, tokens, key_dim, seed + 100),
          v(kv_heads, tokens, value_dim, seed + 200) {}

    Index tokens;
    naive::RandomTokens<float> q, k, v;
};

// Some tokens of several texts, one after another, on the device.
struct Call {
    Call(const std::vector<Text>& texts, const std::vector<SequenceTokens>& parts_, const std::vector<Index>& first)
        : parts(parts_) {
        for (const SequenceTokens& part : parts) tokens += part.tokens;
        q = gather(texts, first, query_heads, key_dim, [](const Text& text) { return text.q.view(); });
        k = gather(texts, first, kv_heads, key_dim, [](const Text& text) { return text.k.view(); });
        v = gather(texts, first, kv_heads, value_dim, [](const Text& text) { return text.v.view(); });
        out = DeviceArray<float>(std::max<Index>(1, tokens) * query_heads * value_dim);
    }

    KVView<const float> queries() const { return view(q, query_heads, key_dim); }
    KVView<const float> keys() const { return view(k, kv_heads, key_dim); }
    KVView<const float> values() const { return view(v, kv_heads, value_dim); }
    KVView<float> results() const {
        return KVView<float>::token_major(out.data(), query_heads, std::max<Index>(1, tokens), value_dim);
    }

    std::vector<SequenceTokens> parts;
    Index tokens = 0;
    DeviceArray<float> q, k, v, out;

private:
    template <class F>
    DeviceArray<float> gather(const std::vector<Text>& texts, const std::vector<Index>& first, Index heads, Index dim,
                              const F& view_of) const {
        std::vector<float> values;
        for (const SequenceTokens& part : parts) {
            const KVView<const float> from = view_of(texts[static_cast<std::size_t>(part.sequence)]);
            for (Index t = 0; t < part.tokens; ++t) {
                for (Index h = 0; h < heads; ++h) {
                    for (Index d = 0; d < dim; ++d) {
                        values.push_back(from.head(h)(first[static_cast<std::size_t>(part.sequence)] + t, d));
                    }
                }
            }
        }
        return DeviceArray<float>(values);
    }

    KVView<const float> view(const DeviceArray<float>& array, Index heads, Index dim) const {
        return KVView<const float>::token_major(array.data(), heads, tokens, dim);
    }
};

inline std::vector<Text> three_texts() {
    std::vector<Text> texts;
    texts.emplace_back(500, 1);
    texts.emplace_back(90, 2);
    texts.emplace_back(310, 3);
    return texts;
}

// Feeds the texts to sequences of a cache, `chunk(sequence)` tokens of each at a time; returns the results of
// each sequence's tokens, [tokens][query_heads * value_dim].
template <class T, class P, class F>
std::vector<std::vector<float>> feed(SinkedKVCache<T, P>& cache, const std::vector<Text>& texts, const F& chunk) {
    ChunkedAttention<float> attention;
    std::vector<Index> done(texts.size(), 0);
    std::vector<std::vector<float>> results(texts.size());
    while (true) {
        std::vector<SequenceTokens> parts;
        for (std::size_t s = 0; s < texts.size(); ++s) {
            const Index count = std::min(chunk(static_cast<Index>(s)), texts[s].tokens - done[s]);
            if (count > 0) parts.push_back({static_cast<Index>(s), count});
        }
        if (parts.empty()) break;
        const Call call(texts, parts, done);
        attention.forward(call.queries(), call.keys(), call.values(), cache, call.results(), parts);
        const std::vector<float> out = call.out.download();
        std::size_t at = 0;
        for (const SequenceTokens& part : parts) {
            const auto count = static_cast<std::size_t>(part.tokens * query_heads * value_dim);
            std::vector<float>& of = results[static_cast<std::size_t>(part.sequence)];
            of.insert(of.end(), out.begin() + static_cast<std::ptrdiff_t>(at),
                      out.begin() + static_cast<std::ptrdiff_t>(at + count));
            at += count;
            done[static_cast<std::size_t>(part.sequence)] += part.tokens;
        }
    }
    return results;
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <int Bits>
bool same(const PackedRows<Bits>& a, const PackedRows<Bits>& b) {
    return same(a.first, b.first) && same(a.packed, b.packed) && same(a.latest, b.latest);
}
template <class T>
bool same(const SavedSequence<T>& a, const SavedSequence<T>& b) {
    return a.size == b.size && a.tokens_seen == b.tokens_seen && a.compressions == b.compressions &&
           a.compressed_at == b.compressed_at && a.packed == b.packed && a.packed_at == b.packed_at &&
           a.queries == b.queries && same(a.keys, b.keys) && same(a.values, b.values);
}

// The same steps of one token for sequences 0 and 2, behind `first` and 30 tokens: by calls to `cache`, and by launches
// of one graph that holds a call to `captured`. Results of each and what is held in the end are the same to the bit.
template <class Cache>
void expect_a_graph_to_be_its_calls(Cache& cache, Cache& captured, Index first, Index count) {
    const std::vector<Text> texts = three_texts();
    ChunkedAttention<float> attention;
    const Call prompt(texts, {{0, first}, {2, 30}}, {0, 0, 0});
    for (Cache* each : {&cache, &captured}) {
        attention.forward(prompt.queries(), prompt.keys(), prompt.values(), *each, prompt.results(), prompt.parts);
    }
    attention.reserve(captured, 2);
    const std::vector<SequenceTokens> step{{0, 1}, {2, 1}};
    const std::vector<Index> both{0, 2};
    captured.prepare(both);
    Call input(texts, step, {first, 0, 30});
    cudaStream_t stream = nullptr;
    check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    attention.forward(input.queries(), input.keys(), input.values(), captured, input.results(), step, stream);
    cudaGraph_t graph = nullptr;
    check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t steps = nullptr;
    check("cudaGraphInstantiate", cudaGraphInstantiate(&steps, graph, 0));
    for (Index t = 0; t < count; ++t) {
        const Call call(texts, step, {first + t, 0, 30 + t});
        attention.forward(call.queries(), call.keys(), call.values(), cache, call.results(), step);
        for (const auto& [from, to] : {std::pair{&call.q, &input.q}, {&call.k, &input.k}, {&call.v, &input.v}}) {
            check("cudaMemcpy", cudaMemcpy(to->data(), from->data(), static_cast<std::size_t>(from->size()) * 4,
                                           cudaMemcpyDeviceToDevice));
        }
        check("cudaDeviceSynchronize", cudaDeviceSynchronize());
        if (t > 0) {  // the first launch is the call that was captured
            captured.prepare(both, stream);
            captured.replayed(step);
        }
        check("cudaGraphLaunch", cudaGraphLaunch(steps, stream));
        EXPECT_EQ(input.out.download(stream), call.out.download()) << "step " << t;
    }
    for (const Index s : both) EXPECT_TRUE(same(captured.save(s, stream), cache.save(s))) << "sequence " << s;
    EXPECT_EQ(captured.size(1), 0);
    EXPECT_EQ(captured.tokens_seen(1), 0);
    check("cudaGraphExecDestroy", cudaGraphExecDestroy(steps));
    check("cudaGraphDestroy", cudaGraphDestroy(graph));
    check("cudaStreamDestroy", cudaStreamDestroy(stream));
}

// P's cache of these options, fed in three ways and each text by itself.
template <class T, class P>
void expect_chunks_and_batches_change_no_bit(const CacheOptions& options) {
    const std::vector<Text> texts = three_texts();
    std::vector<std::vector<float>> first;
    std::vector<SavedSequence<T>> entries;
    const auto chunks = {+[](Index) { return Index{1000}; }, +[](Index) { return Index{1}; },
                         +[](Index s) { return 1 + 61 * s; }};
    for (const auto& chunk : chunks) {
        SinkedKVCache<T, P> cache(options, Rope(rope_options));
        const auto results = feed(cache, texts, chunk);
        for (Index s = 0; s < 3; ++s) {
            if (first.empty()) {
                entries.push_back(cache.save(s));
            } else {
                EXPECT_TRUE(same(cache.save(s), entries[static_cast<std::size_t>(s)])) << "sequence " << s;
            }
        }
        if (first.empty()) first = results;
        EXPECT_EQ(results, first);
    }
    for (std::size_t s = 0; s < 3; ++s) {
        CacheOptions one = options;
        one.sequences = 1;
        SinkedKVCache<T, P> cache(one, Rope(rope_options));
        EXPECT_EQ(feed(cache, std::vector<Text>{texts[s]}, [](Index) { return Index{64}; }).front(), first[s])
            << "sequence " << s << " alone";
        EXPECT_TRUE(same(cache.save(0), entries[s]));
    }
}

}  // namespace freqkv::cuda::cache_test
