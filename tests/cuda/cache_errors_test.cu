// SPDX-License-Identifier: MIT
#include <cstddef>
#include <string>
#include <vector>

#include "cuda/cache_cases.cuh"
#include "cuda/device_tests.cuh"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"

namespace freqkv::cuda::cache_test {
namespace {

TEST(DeviceCacheErrors, NameWhatIsWrongAndChangeNothing) {
    const auto refused = [](CacheOptions changed) { return message_of([&] { SinkedKVCache<float>{changed}; }); };
    EXPECT_EQ(refused(with(options, &CacheOptions::sequences, Index{0})),
              "freqkv: sequences is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(refused(with(options, &CacheOptions::kv_heads, Index{0})), "freqkv: kv_heads is 0, must be at least 1");
    EXPECT_EQ(refused(with(options, &CacheOptions::query_heads, Index{5})),
              "freqkv: query_heads is 5, must be a multiple of kv_heads");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{24})),
              "freqkv: capacity is 24, must be at least sinks + recent + 2");
    EXPECT_EQ(message_of([] { SinkedKVCache<float>(options, Rope({.head_dim = 10})); }),
              "freqkv: head_dim of the rope is 10, must be key_dim of the cache");

    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float> cache(options, Rope(rope_options));
    ChunkedAttention<float> attention;
    const Call call(texts, {{0, 5}, {2, 4}}, {0, 0, 0});
    const auto verdict = [&](std::vector<SequenceTokens> parts) {
        return message_of(
            [&] { attention.forward(call.queries(), call.keys(), call.values(), cache, call.results(), parts); });
    };
    EXPECT_EQ(verdict({{0, 5}, {3, 4}}), "freqkv: sequence is 3, must be one of the cache's");
    EXPECT_EQ(verdict({{0, 5}, {0, 4}}), "freqkv: sequence is 0, must not be in one call twice");
    EXPECT_EQ(verdict({{0, 5}, {2, 3}}),
              "freqkv: tokens of all sequences is 8, must be those of the views, which are 9");
    EXPECT_EQ(verdict({{0, 10}, {2, -1}}), "freqkv: tokens of a sequence is -1, must be 0 to 2^31 - 1");
    EXPECT_EQ(message_of([&] {
                  attention.forward(call.queries(), call.keys(), call.values(), cache,
                                    KVView<float>::token_major(call.q.data(), query_heads, 9, value_dim), call.parts);
              }),
              "freqkv: overlap is out with q, must not be");
    EXPECT_THAT(message_of([&] {
                    attention.forward(call.keys(), call.keys(), call.values(), cache, call.results(), call.parts);
                }),
                testing::HasSubstr("heads of q is 2, must be query_heads of the cache"));
    EXPECT_THAT(message_of([] { ChunkedAttention<float>(-1); }), testing::HasSubstr("scale is -1"));
    EXPECT_EQ(message_of([&] {
                  attention.forward(KVView<const float>(nullptr, query_heads, 0, key_dim),
                                    KVView<const float>(nullptr, kv_heads, 0, key_dim),
                                    KVView<const float>(nullptr, kv_heads, 0, value_dim), cache,
                                    KVView<float>(nullptr, query_heads, 0, value_dim), {});
              }),
              "accepted")
        << "nothing to do";
    for (Index s = 0; s < 3; ++s) EXPECT_EQ(cache.tokens_seen(s), 0);
    EXPECT_EQ(verdict({{0, 5}, {2, 4}}), "accepted");
    EXPECT_THAT(message_of([&] { cache.truncate(0, 6); }), testing::HasSubstr("tokens to keep is 6"));
    EXPECT_THAT(message_of([&] { cache.fork(0, 0); }), testing::HasSubstr("sequence to copy to is 0"));
    SavedSequence<float> saved = cache.save(0);
    saved.keys.pop_back();
    EXPECT_THAT(message_of([&] { cache.load(1, saved); }), testing::HasSubstr("elements of the saved sequence is 79"));
    saved = cache.save(0);
    saved.size = capacity + 1;
    EXPECT_THAT(message_of([&] { cache.load(1, saved); }), testing::HasSubstr("must be within the capacity"));
    EXPECT_EQ(cache.size(1), 0);
}

TEST(DeviceCacheErrors, WhatLaunchesAndCopiesCannotCountIsRefused) {
    const auto refused = [](CacheOptions changed) { return message_of([&] { SinkedKVCache<float, Full>{changed}; }); };
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{0})), "freqkv: capacity is 0, must be at least 1");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{1} << 31)),
              "freqkv: capacity is 2147483648, must be below 2^31");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{1} << 26)),
              "freqkv: capacity is 67108864, must be at most 67108863, for a head of such key_dim may take 2 GiB");
    EXPECT_EQ(refused(with(options, &CacheOptions::capacity, Index{1} << 30)),
              "freqkv: capacity is 1073741824, must be at most 67108863, for a head of such key_dim may take 2 GiB");
    EXPECT_EQ(refused(with(options, &CacheOptions::value_dim, (Index{1} << 20) + 1)),
              "freqkv: value_dim is 1048577, must be at most 2^20");
    CacheOptions wide = options;
    wide.query_heads = wide.kv_heads = Index{1} << 11;
    wide.value_dim = Index{1} << 20;
    EXPECT_EQ(refused(wide), "freqkv: kv_heads is 2048, times value_dim must be below 2^31");
    wide.kv_heads = (Index{1} << 20) + 1;
    EXPECT_EQ(refused(wide), "freqkv: kv_heads is 1048577, must be at most 2^20");
    EXPECT_EQ(
        message_of([&] { SinkedKVCache<float, LocalWindow>(with(options, &CacheOptions::sinks, (Index{1} << 62))); }),
        "freqkv: capacity is 150, must be at least sinks + recent + 2");
}

TEST(DeviceCacheErrors, BeyondItsRoomUnderFullNothingChanges) {
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float, Full> cache(options, Rope(rope_options));
    const Call first(texts, {{0, 100}, {2, 40}}, {0, 0, 0});
    cache.append(first.keys(), first.values(), first.parts);
    std::vector<SavedSequence<float>> before;
    for (Index s = 0; s < 3; ++s) before.push_back(cache.save(s));
    ChunkedAttention<float> attention;
    const Call next(texts, {{2, 60}, {0, 51}}, {100, 0, 40});
    const std::string reason = "freqkv: tokens of sequence 0 is 51, must be within its room, which is 50";
    EXPECT_EQ(message_of([&] { cache.append(next.keys(), next.values(), next.parts); }), reason);
    EXPECT_EQ(message_of([&] {
                  attention.forward(next.queries(), next.keys(), next.values(), cache, next.results(), next.parts);
              }),
              reason);
    EXPECT_EQ(message_of([&] { cache.replayed(next.parts); }), reason);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), before[static_cast<std::size_t>(s)])) << s;

    const Call last(texts, {{2, 60}, {0, 50}}, {100, 0, 40});
    cache.append(last.keys(), last.values(), last.parts);
    cache.prepare(std::vector<Index>{0, 1, 2});
    EXPECT_EQ(cache.size(0), capacity) << "there is nothing to prepare";
    EXPECT_EQ(cache.size(2), 100);
    EXPECT_EQ(cache.memory().tables, 0);
}

TEST(DeviceCacheErrors, OutOfMemoryIsOneErrorAndNoHarm) {
    CacheOptions huge = options;
    huge.sequences = Index{1} << 20;
    huge.capacity = 8192;
    EXPECT_THROW(SinkedKVCache<float>{huge}, CudaError);
    SinkedKVCache<float> cache(options);
    EXPECT_EQ(cache.memory().keys, 3 * kv_heads * capacity * key_dim * 4);
    EXPECT_EQ(cache.memory().values, 3 * kv_heads * capacity * value_dim * 4);
    EXPECT_GT(cache.memory().tables, 0);
}

}  // namespace
}  // namespace freqkv::cuda::cache_test
