// SPDX-License-Identifier: MIT
#include "freqkv/cuda/chunked_attention.cuh"

#include <cstddef>
#include <string>
#include <vector>

#include "cuda/cache_cases.cuh"
#include "cuda/device_tests.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "naive_cache.hpp"

namespace freqkv::cuda::cache_test {
namespace {

TEST(DeviceAttention, TakesEverySizeOfGroup) {
    for (const Index group : {1, 2, 3, 4, 5, 8, 9}) {
        for (const auto& [keys_dim, values_dim] : {std::pair<Index, Index>{8, 4}, {6, 5}}) {
            SCOPED_TRACE(std::to_string(group) + " query heads for a KV head, " + std::to_string(keys_dim) + " and " +
                         std::to_string(values_dim) + " dimensions");
            const Index tokens = 140;
            SinkedKVCache<float> cache({.kv_heads = 1,
                                        .query_heads = group,
                                        .key_dim = keys_dim,
                                        .value_dim = values_dim,
                                        .capacity = tokens});
            naive::RandomTokens<float> q(group, tokens, keys_dim, 5);
            naive::RandomTokens<float> k(1, tokens, keys_dim, 6);
            naive::RandomTokens<float> v(1, tokens, values_dim, 7);
            const auto upload = [](const KVView<const float>& view) {
                return DeviceArray<float>(std::span<const float>(
                    view.data, static_cast<std::size_t>(view.heads * view.tokens * view.head_dim)));
            };
            const DeviceArray<float> queries = upload(std::as_const(q).view());
            const DeviceArray<float> keys = upload(std::as_const(k).view());
            const DeviceArray<float> values = upload(std::as_const(v).view());
            const DeviceArray<float> out(group * tokens * values_dim);
            const SequenceTokens part{0, tokens};
            ChunkedAttention<float>(0.7).forward(
                KVView<const float>::token_major(queries.data(), group, tokens, keys_dim),
                KVView<const float>::token_major(keys.data(), 1, tokens, keys_dim),
                KVView<const float>::token_major(values.data(), 1, tokens, values_dim), cache,
                KVView<float>::token_major(out.data(), group, tokens, values_dim),
                std::span<const SequenceTokens>(&part, 1));
            const std::vector<float> results = out.download();
            naive::Cache expected(1, tokens, {}, nullptr);
            for (Index t = 0; t < tokens; ++t) {
                expected.append({naive::row(std::as_const(k).view().head(0), t)},
                                {naive::row(std::as_const(v).view().head(0), t)});
                for (Index h = 0; h < group; ++h) {
                    const naive::Row want = expected.attended(0, naive::row(std::as_const(q).view().head(h), t), 0.7);
                    for (Index d = 0; d < values_dim; ++d) {
                        ASSERT_NEAR(
                            static_cast<double>(results[static_cast<std::size_t>((t * group + h) * values_dim + d)]),
                            want[static_cast<std::size_t>(d)], 1e-5)
                            << "token " << t << ", head " << h;
                    }
                }
            }
        }
    }
}

TEST(DeviceAttention, IsCapturedInAGraph) {
    SinkedKVCache<__half> cache(options, Rope(rope_options));
    SinkedKVCache<__half> captured(options, Rope(rope_options));
    expect_a_graph_to_be_its_calls(cache, captured, 100, 5);
}

TEST(DeviceAttention, RefusesABoundaryInAGraph) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float> cache(options, Rope(rope_options));
    const Call full(texts, {{0, capacity}}, {0, 0, 0});
    cache.append(full.keys(), full.values(), full.parts);
    const Call next(texts, {{0, 1}}, {capacity, 0, 0});
    const Call longer(texts, {{2, capacity + 1}}, {0, 0, 0});
    ChunkedAttention<float> attention;
    attention.reserve(cache, 1);
    cudaStream_t stream = nullptr;
    check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_THAT(
        [&] {
            attention.forward(next.queries(), next.keys(), next.values(), cache, next.results(), next.parts, stream);
        },
        refuses("tokens of sequence 0 is 1, must be within its room, which is 0, and must not be met while a stream is "
                "captured"));
    EXPECT_THAT([&] { cache.prepare(std::vector<Index>{1, 0}, stream); },
                refuses("room of a sequence is 0, must not be met while a stream is captured"));
    // A boundary that is met by the last tokens only.
    EXPECT_THAT([&] { cache.append(longer.keys(), longer.values(), longer.parts, stream); },
                refuses("tokens of sequence 2 is 151, must be within its room, which is 150, and must not be met"));
    cudaGraph_t graph = nullptr;
    check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
    check("cudaGraphDestroy", cudaGraphDestroy(graph));
    check("cudaStreamDestroy", cudaStreamDestroy(stream));
    EXPECT_EQ(cache.size(0), capacity);
    EXPECT_EQ(cache.size(2), 0);
    EXPECT_EQ(message_of([&] { cache.replayed(next.parts); }),
              "freqkv: tokens of sequence 0 is 1, must be within its room, which is 0");
    EXPECT_EQ(
        message_of([&] { cache.replayed(std::vector<SequenceTokens>{{1, Index{1} << 62}, {2, Index{1} << 62}}); }),
        "freqkv: tokens of a sequence is 4611686018427387904, must be 0 to 2^31 - 1");
    EXPECT_EQ(message_of([&] { cache.replayed(std::vector<SequenceTokens>{{1, 100}, {1, 100}}); }),
              "freqkv: sequence is 1, must not be in one call twice");
}

}  // namespace
}  // namespace freqkv::cuda::cache_test
