// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "cuda/cache_cases.cuh"
#include "cuda/device_tests.cuh"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "naive_cache.hpp"

namespace freqkv::cuda::cache_test {
namespace {

TYPED_TEST_SUITE(DeviceCache, ElementTypes, ElementNames);

template <class T>
class DeviceCache : public testing::Test {};

// Feeds three texts, and compares with the cache as the method describes it.
template <class T, class P>
void expect_the_method(SinkedKVCache<T, P>& cache, const naive::Rotary& rotary, double ratio,
                       naive::CompressSpan compress) {
    const std::vector<Text> texts = three_texts();
    const auto results = feed(cache, texts, [](Index sequence) { return 37 + 20 * sequence; });
    const CacheOptions& shape = cache.options();
    // Of the largest entry: rounding at each compression and when a key is turned.
    const double tolerance = std::is_same_v<T, float> ? 1e-5 : 20 * rounding<T>;
    for (Index s = 0; s < 3; ++s) {
        const Text& text = texts[static_cast<std::size_t>(s)];
        const SavedSequence<T> saved = cache.save(s);
        EXPECT_EQ(saved.tokens_seen, text.tokens);
        for (Index h = 0; h < kv_heads; ++h) {
            naive::Cache cache_of_head(1, shape.capacity, rotary,
                                       naive::whole_span(shape.sinks, shape.recent, ratio, compress));
            const naive::Head& expected = cache_of_head.heads[0];
            double largest_error = 0;
            for (Index t = 0; t < text.tokens; ++t) {
                cache_of_head.append({naive::row(text.k.view().head(h), t)}, {naive::row(text.v.view().head(h), t)});
                for (Index g = 0; g < query_heads / kv_heads; ++g) {
                    const Index head = h * (query_heads / kv_heads) + g;
                    const naive::Row want = cache_of_head.attended(0, naive::row(text.q.view().head(head), t),
                                                                   1 / std::sqrt(static_cast<double>(key_dim)));
                    for (Index d = 0; d < value_dim; ++d) {
                        const float have = results[static_cast<std::size_t>(s)]
                                                  [static_cast<std::size_t>((t * query_heads + head) * value_dim + d)];
                        largest_error = std::max(
                            largest_error, std::abs(static_cast<double>(have) - want[static_cast<std::size_t>(d)]));
                    }
                }
            }
            EXPECT_LT(largest_error, 3 * tolerance) << "attention of sequence " << s << ", KV head " << h;
            ASSERT_EQ(saved.size, static_cast<Index>(expected.size()));
            EXPECT_EQ(saved.compressions, expected.compressions);
            for (Index e = 0; e < saved.size; ++e) {
                const naive::Row key =
                    cache_of_head.rotated(expected.keys[static_cast<std::size_t>(e)], static_cast<std::size_t>(e));
                for (Index d = 0; d < key_dim; ++d) {
                    const T have = saved.keys[static_cast<std::size_t>((h * saved.size + e) * key_dim + d)];
                    ASSERT_NEAR(static_cast<double>(static_cast<float>(have)), key[static_cast<std::size_t>(d)],
                                3 * tolerance)
                        << "key " << e << " of sequence " << s;
                }
                for (Index d = 0; d < value_dim; ++d) {
                    const T have = saved.values[static_cast<std::size_t>((h * saved.size + e) * value_dim + d)];
                    ASSERT_NEAR(static_cast<double>(static_cast<float>(have)),
                                expected.values[static_cast<std::size_t>(e)][static_cast<std::size_t>(d)],
                                3 * tolerance)
                        << "value " << e << " of sequence " << s;
                }
            }
        }
    }
}

TYPED_TEST(DeviceCache, HoldsAndAttendsAsTheMethodSays) {
    SinkedKVCache<TypeParam> cache(options, Rope(rope_options));
    expect_the_method(cache, rotary, 0.5, &naive::Head::low_pass);
}

TYPED_TEST(DeviceCache, ForgetsAllButALocalWindow) {
    using T = TypeParam;
    struct Rotation {
        const char* name;
        std::optional<RopeOptions> rope;
        naive::Rotary rotary;
    };
    for (const Rotation& rotation :
         {Rotation{"split", rope_options, rotary},
          {"adjacent", RopeOptions{.head_dim = key_dim, .base = 300, .pairing = RopePairing::adjacent}, {8, 300, true}},
          {"before RoPE", std::nullopt, {}}}) {
        for (const auto& [ratio, latest] : {std::pair<double, Index>{0.5, recent}, {0.05, 0}, {0.97, 1}}) {
            SCOPED_TRACE(std::string(rotation.name) + ", ratio " + std::to_string(ratio));
            SinkedKVCache<T, LocalWindow> cache(with(options, &CacheOptions::recent, latest),
                                                rotation.rope ? std::optional<Rope>(*rotation.rope) : std::nullopt,
                                                LocalWindow(ratio));
            expect_the_method(cache, rotation.rotary, ratio, &naive::Head::select_latest);
            EXPECT_EQ(cache.memory().tables, 0) << "nothing is transformed";
        }
    }
}

TYPED_TEST(DeviceCache, HoldsAllThatItHasRoomForUnderFull) {
    SinkedKVCache<TypeParam, Full> cache(with(options, &CacheOptions::capacity, Index{500}), Rope(rope_options));
    expect_the_method(cache, rotary, 0.5, &naive::Head::low_pass);
    EXPECT_EQ(cache.room(0), 0);
    EXPECT_EQ(cache.compressions(0), 0);
}

TYPED_TEST(DeviceCache, ChunksAndBatchesChangeNoBit) {
    expect_chunks_and_batches_change_no_bit<TypeParam, LowPass<>>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, LocalWindow>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, Full>(with(options, &CacheOptions::capacity, Index{500}));
}

TYPED_TEST(DeviceCache, AppendsWithoutAttention) {
    using T = TypeParam;
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<T> attended(options, Rope(rope_options));
    (void)feed(attended, texts, [](Index) { return Index{50}; });
    SinkedKVCache<T> cache(options, Rope(rope_options));
    const Call call(texts, {{2, 310}, {0, 500}, {1, 90}}, {0, 0, 0});
    cache.append(call.keys(), call.values(), call.parts);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), attended.save(s))) << "sequence " << s;
}

TYPED_TEST(DeviceCache, GoesOnFromACopyATruncationAndASavedState) {
    using T = TypeParam;
    std::vector<Text> texts = three_texts();
    SinkedKVCache<T> cache(options, Rope(rope_options));
    const auto append = [&](Index sequence, Index first, Index count) {
        // Every sequence gets the first text.
        std::vector<Text> same_text{texts[0], texts[0], texts[0]};
        const Call call(same_text, {{sequence, count}}, {first, first, first});
        cache.append(call.keys(), call.values(), call.parts);
    };
    append(0, 0, 240);
    const SavedSequence<T> at_240 = cache.save(0);
    cache.fork(0, 1);
    EXPECT_TRUE(same(cache.save(1), at_240));
    append(0, 240, 130);
    const SavedSequence<T> at_370 = cache.save(0);
    EXPECT_TRUE(same(cache.save(1), at_240)) << "the copy does not go along";
    append(1, 240, 130);
    EXPECT_TRUE(same(cache.save(1), at_370));

    cache.load(2, at_240);
    EXPECT_TRUE(same(cache.save(2), at_240));
    append(2, 240, 10);
    cache.truncate(2, 240);
    EXPECT_TRUE(same(cache.save(2), at_240));
    append(2, 240, 130);
    EXPECT_TRUE(same(cache.save(2), at_370));

    cache.clear(2);
    EXPECT_EQ(cache.size(2), 0);
    EXPECT_EQ(cache.tokens_seen(2), 0);
    append(2, 0, 240);
    EXPECT_TRUE(same(cache.save(2), at_240));

    const std::vector<std::int32_t> sizes{static_cast<std::int32_t>(cache.size(0)),
                                          static_cast<std::int32_t>(cache.size(1)),
                                          static_cast<std::int32_t>(cache.size(2))};
    std::vector<std::int32_t> on_device(3);
    check("cudaMemcpy", cudaMemcpy(on_device.data(), cache.device_sizes(), 12, cudaMemcpyDeviceToHost));
    EXPECT_EQ(on_device, sizes);
}

TYPED_TEST(DeviceCache, PreparesInIdleTime) {
    using T = TypeParam;
    const std::vector<Text> texts = three_texts();
    SinkedKVCache<T> cache(options, Rope(rope_options));
    SinkedKVCache<T> prepared(options, Rope(rope_options));
    const Call full(texts, {{0, capacity}, {2, capacity - 1}}, {0, 0, 0});
    const Call next(texts, {{0, 1}, {2, 1}}, {capacity, 0, capacity - 1});
    for (SinkedKVCache<T>* each : {&cache, &prepared}) each->append(full.keys(), full.values(), full.parts);
    EXPECT_EQ(prepared.room(0), 0);
    prepared.prepare(std::vector<Index>{0, 1, 2});
    EXPECT_EQ(prepared.size(0), sinks + (capacity - sinks - recent) / 2 + recent);
    EXPECT_EQ(prepared.size(2), capacity - 1) << "not full";
    for (SinkedKVCache<T>* each : {&cache, &prepared}) each->append(next.keys(), next.values(), next.parts);
    for (Index s = 0; s < 3; ++s) EXPECT_TRUE(same(cache.save(s), prepared.save(s)));
}

// More rows than a launch has blocks for in one direction.
TEST(DeviceCacheSizes, AppendsMillionsOfTokensAtOnce) {
    constexpr Index tokens = 65535 * 64 + 100;
    SinkedKVCache<float, Full> cache({.kv_heads = 1, .key_dim = 1, .capacity = tokens});
    std::vector<float> rows(tokens);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
    const DeviceArray<float> memory(rows);
    const KVView<const float> view = KVView<const float>::token_major(memory.data(), 1, tokens, 1);
    cache.append(view, view, std::vector<SequenceTokens>{{0, tokens}});
    EXPECT_TRUE(cache.save(0).keys == rows);
}

// A capacity beyond what one transform takes.
TEST(DeviceCacheSizes, OnlyTransformsBoundTheCapacity) {
    const CacheOptions large{.kv_heads = 1, .key_dim = 2, .capacity = 40000};
    EXPECT_THAT([&] { SinkedKVCache<float>{large}; }, refuses("n is 39996, must be 1 to 16384 on a device"));
    std::vector<float> rows;
    for (Index t = 0; t < 40001; ++t) rows.insert(rows.end(), {static_cast<float>(t), 0.5F});
    const DeviceArray<float> memory(rows);
    const auto append = [&](auto& cache, Index tokens) {
        const KVView<const float> view = KVView<const float>::token_major(memory.data(), 1, tokens, 2);
        cache.append(view, view, std::vector<SequenceTokens>{{0, tokens}});
    };
    SinkedKVCache<float, Full> full(large);
    append(full, 40000);
    EXPECT_EQ(full.size(0), 40000);
    SinkedKVCache<float, LocalWindow> window(large);
    append(window, 40001);
    const SavedSequence<float> saved = window.save(0);
    ASSERT_EQ(saved.size, 4 + 39996 / 2 + 1);
    for (Index e = 0; e < saved.size; ++e) {
        ASSERT_EQ(saved.values[static_cast<std::size_t>(2 * e)], static_cast<float>(e < 4 ? e : e + 39996 / 2));
    }
}

}  // namespace
}  // namespace freqkv::cuda::cache_test
