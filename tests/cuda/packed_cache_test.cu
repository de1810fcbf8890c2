// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/cache_cases.cuh"
#include "cuda/device_tests.cuh"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/cuda/workspace.cuh"
#include "freqkv/packed.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/window_attention.hpp"
#include "random_tokens.hpp"

// Caches that hold packed entries on a device: beside the host's in same_as_packed_host_test.cpp.
namespace freqkv::cuda::cache_test {
namespace {

template <class T>
class DevicePackedCache : public testing::Test {};
using PackedTypes = testing::Types<Packed<8>, Packed<4>, Packed<2>>;
TYPED_TEST_SUITE(DevicePackedCache, PackedTypes);

const CacheOptions packed_options = with(with(options, &CacheOptions::capacity, Index{230}), &CacheOptions::exact, 21);

TYPED_TEST(DevicePackedCache, ChunksAndBatchesChangeNoBit) {
    expect_chunks_and_batches_change_no_bit<TypeParam, LocalWindow>(packed_options);
}

TEST(DevicePackedPolicies, ChunksAndBatchesChangeNoBit) {
    expect_chunks_and_batches_change_no_bit<Packed<8>, LowPass<>>(packed_options);
    expect_chunks_and_batches_change_no_bit<Packed<4>, Full>(with(packed_options, &CacheOptions::capacity, Index{500}));
    expect_chunks_and_batches_change_no_bit<Packed<4>, KeyDiff>(packed_options);
    expect_chunks_and_batches_change_no_bit<Packed<8>, SnapKV<16>>(packed_options);
    expect_chunks_and_batches_change_no_bit<Packed<4>, ExactAndLowPass<WindowAttention<3>>>(packed_options);
}

// Where next to nothing is packed, or everything is that may be.
TEST(DevicePackedSizes, ChunksAndBatchesChangeNoBit) {
    for (const auto& [first, latest, capacity_of] : {std::tuple<Index, Index, Index>{0, 0, 150},
                                                     {3, 0, 24 + 64},
                                                     {3, 1000, 150},
                                                     {0, 127, 24 + 128},
                                                     {100, 7, 260}}) {
        SCOPED_TRACE(std::to_string(first) + " sinks, " + std::to_string(latest) + " exact, capacity " +
                     std::to_string(capacity_of));
        CacheOptions of = options;
        of.sinks = first;
        of.exact = latest;
        of.capacity = capacity_of;
        expect_chunks_and_batches_change_no_bit<Packed<4>, LocalWindow>(of);
    }
}

TYPED_TEST(DevicePackedCache, GoesOnFromACopyATruncationAndASavedState) {
    using T = TypeParam;
    std::vector<Text> texts = three_texts();
    SinkedKVCache<T> cache(packed_options, Rope(rope_options));
    const auto append = [&](Index sequence, Index first, Index count) {
        std::vector<Text> same_text{texts[0], texts[0], texts[0]};
        const Call call(same_text, {{sequence, count}}, {first, first, first});
        cache.append(call.keys(), call.values(), call.parts);
    };
    append(0, 0, 170);
    const SavedSequence<T> at_170 = cache.save(0);
    EXPECT_EQ(at_170.packed, 128);
    EXPECT_GT(at_170.packed_at, 0);
    cache.fork(0, 1);
    EXPECT_TRUE(same(cache.save(1), at_170));
    append(0, 170, 200);
    const SavedSequence<T> at_370 = cache.save(0);
    EXPECT_GT(at_370.compressions, 0);
    EXPECT_TRUE(same(cache.save(1), at_170)) << "the copy does not go along";
    append(1, 170, 200);
    EXPECT_TRUE(same(cache.save(1), at_370));

    cache.load(2, at_170);
    EXPECT_TRUE(same(cache.save(2), at_170));
    append(2, 170, 10);
    cache.truncate(2, 170);
    EXPECT_TRUE(same(cache.save(2), at_170));
    EXPECT_THROW(cache.truncate(2, at_170.packed_at - 1), Error);
    append(2, 170, 200);
    EXPECT_TRUE(same(cache.save(2), at_370));

    cache.clear(2);
    EXPECT_EQ(cache.size(2), 0);
    append(2, 0, 170);
    EXPECT_TRUE(same(cache.save(2), at_170));
}

TYPED_TEST(DevicePackedCache, PreparesInIdleTime) {
    using T = TypeParam;
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<T> cache(packed_options, Rope(rope_options));
    SinkedKVCache<T> prepared(packed_options, Rope(rope_options));
    const Index until_packing = 3 + 21 + 64;
    const Call full(texts, {{0, 230}, {2, until_packing}}, {0, 0, 0});
    const Call next(texts, {{0, 1}, {2, 1}}, {230, 0, until_packing});
    for (SinkedKVCache<T>* each : {&cache, &prepared}) each->append(full.keys(), full.values(), full.parts);
    EXPECT_EQ(prepared.room(0), 0);
    EXPECT_EQ(prepared.room(2), 0);
    prepared.prepare(std::vector<Index>{0, 1, 2});
    EXPECT_EQ(prepared.compressions(0), 1);
    EXPECT_EQ(prepared.size(2), until_packing);
    EXPECT_EQ(prepared.room(2), 64);
    for (SinkedKVCache<T>* each : {&cache, &prepared}) each->append(next.keys(), next.values(), next.parts);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), prepared.save(s)));
}

TEST(DevicePackedMemory, IsWhatThePackedTypeSays) {
    const CacheOptions of{.kv_heads = 2, .key_dim = 64, .value_dim = 40, .capacity = 4 + 32 + 640};
    const Index exact_rows = 4 + 32 + 64;
    SinkedKVCache<Packed<4>, LocalWindow> cache(of);
    EXPECT_EQ(cache.memory().keys, 2 * (exact_rows * 64 * 2 + 640 * 2 * 18));
    EXPECT_EQ(cache.memory().values, 2 * (exact_rows * 40 * 2 + 640 * 2 * 18));
    EXPECT_EQ(cache.memory().scratch, 2 * 676 * (64 + 40) * 4);
    Workspace shared;
    SinkedKVCache<Packed<4>, LocalWindow> first(of, std::nullopt, LocalWindow(), &shared);
    SinkedKVCache<Packed<4>, LocalWindow> second(of, std::nullopt, LocalWindow(), &shared);
    EXPECT_EQ(first.memory().scratch, second.memory().scratch);
    EXPECT_EQ(shared.bytes(), cache.memory().scratch);
    SinkedKVCache<Packed<8>, Full> full(of);
    EXPECT_EQ(full.memory().keys, 2 * (exact_rows * 64 * 2 + 640 * 2 * 34));
    EXPECT_EQ(full.memory().scratch, 0);
}

TEST(DevicePackedErrors, NameWhatIsWrong) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<Packed<8>, Full> full(packed_options);
    const Call call(texts, {{0, 231}}, {0, 0, 0});
    EXPECT_EQ(message_of([&] { full.append(call.keys(), call.values(), call.parts); }),
              "freqkv: tokens of sequence 0 is 231, must be within its room, which is 230");
    EXPECT_EQ(full.tokens_seen(0), 0);
    EXPECT_THAT(message_of([] { SinkedKVCache<Packed<8>>({.kv_heads = 1, .key_dim = 1 << 20, .capacity = 6}); }),
                testing::HasSubstr("key_dim is 1048576, must be smaller: a packed row has to fit a block's shared"));
    SinkedKVCache<Packed<8>> cache(packed_options);
    const Call some(texts, {{0, 150}}, {0, 0, 0});
    cache.append(some.keys(), some.values(), some.parts);
    SavedSequence<Packed<8>> saved = cache.save(0);
    saved.keys.packed.pop_back();
    EXPECT_THAT(message_of([&] { cache.load(1, saved); }), testing::HasSubstr("packed groups of the saved sequence"));
    saved = cache.save(0);
    saved.packed = 0;
    EXPECT_THAT(message_of([&] { cache.load(1, saved); }), testing::HasSubstr("packed entries of the saved sequence"));
    EXPECT_EQ(cache.tokens_seen(1), 0);
}

// Steps of a graph, between which entries are packed and compressed.
TEST(DevicePackedInAGraph, GoesOnOverPackingsAndCompressions) {
    using Cache = SinkedKVCache<Packed<4>, SnapKV<8>>;
    Cache cache(packed_options, Rope(rope_options));
    Cache captured(packed_options, Rope(rope_options));
    expect_a_graph_to_be_its_calls(cache, captured, 300, 200);
    EXPECT_GT(cache.compressions(0), 1);
    EXPECT_GT(cache.save(2).packed, 64);
}

TEST(DevicePackedInAGraph, RefusesToPack) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<Packed<4>, Full> cache(packed_options);
    const Call call(texts, {{0, 100}}, {0, 0, 0});
    cudaStream_t stream = nullptr;
    check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_THAT(
        [&] { cache.append(call.keys(), call.values(), call.parts, stream); },
        refuses("tokens of sequence 0 is 100, must be within its room, which is 85, and must not be met while"));
    cudaGraph_t graph = nullptr;
    check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
    check("cudaGraphDestroy", cudaGraphDestroy(graph));
    check("cudaStreamDestroy", cudaStreamDestroy(stream));
    EXPECT_EQ(cache.size(0), 0);
}

// Tokens together on tensor cores agree with tokens one by one.
template <class U, int Bits>
void expect_agreement(Index group, Index dim) {
    SCOPED_TRACE(std::to_string(Bits) + " bits, " + std::to_string(group) + " query heads for a KV head, " +
                 std::to_string(dim) + " dimensions");
    constexpr Index tokens = 470;
    const CacheOptions of{
        .kv_heads = 2, .query_heads = 2 * group, .key_dim = dim, .capacity = 300, .sinks = 4, .recent = 10};
    const Rope rope({.head_dim = dim, .base = 5000, .pairing = RopePairing::half_split});
    const auto random = [&](Index heads, unsigned seed) {
        const naive::RandomTokens<float> values(heads, tokens, dim, seed);
        std::vector<U> elements;
        for (Index i = 0; i < heads * tokens * dim; ++i) elements.push_back(static_cast<U>(values.view().data[i]));
        return DeviceArray<U>(elements);
    };
    const DeviceArray<U> q = random(2 * group, 7), k = random(2, 8), v = random(2, 9);
    const auto view = [&](const DeviceArray<U>& array, Index heads) {
        return KVView<const U>::token_major(array.data(), heads, tokens, dim);
    };
    std::vector<std::vector<float>> results;
    std::vector<SavedSequence<Packed<Bits>>> entries;
    for (const Chunks chunks : {Chunks::token_by_token, Chunks::together}) {
        SinkedKVCache<Packed<Bits>> cache(of, rope);
        const DeviceArray<U> out(2 * group * tokens * dim);
        const SequenceTokens part{0, tokens};
        ChunkedAttention<U>(0, chunks).forward(view(q, 2 * group), view(k, 2), view(v, 2), cache,
                                               KVView<U>::token_major(out.data(), 2 * group, tokens, dim),
                                               std::span<const SequenceTokens>(&part, 1));
        ASSERT_GT(cache.compressions(0), 0);
        results.emplace_back();
        for (const U& x : out.download()) results.back().push_back(static_cast<float>(x));
        entries.push_back(cache.save(0));
    }
    float difference = 0;
    for (std::size_t i = 0; i < results[0].size(); ++i) {
        difference = std::fmax(difference, std::abs(results[1][i] - results[0][i]));
    }
    EXPECT_LT(difference, 15 * rounding<__half>);
    EXPECT_NE(results[1], results[0]) << "the kernel for chunks has not been used";
    EXPECT_TRUE(same(entries[1], entries[0]));
}

TEST(DevicePackedPrefill, AgreesWithTokensOneByOne) {
    expect_agreement<float, 8>(2, 64);
    expect_agreement<float, 4>(4, 64);
    expect_agreement<__half, 4>(1, 128);
    expect_agreement<__half, 2>(4, 64);
}

}  // namespace
}  // namespace freqkv::cuda::cache_test
