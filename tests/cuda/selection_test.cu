// SPDX-License-Identifier: MIT
#include <cstddef>
#include <string>
#include <vector>

#include "cuda/cache_cases.cuh"
#include "cuda/device_tests.cuh"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/window_attention.hpp"

// Policies that go by scores, on a device: beside the host's in same_as_host_test.cpp.
namespace freqkv::cuda::cache_test {
namespace {

TYPED_TEST_SUITE(DeviceSelection, ElementTypes, ElementNames);

template <class T>
class DeviceSelection : public testing::Test {};

TYPED_TEST(DeviceSelection, ChunksAndBatchesChangeNoBit) {
    expect_chunks_and_batches_change_no_bit<TypeParam, KeyNorm>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, ValueNorm>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, KeyDiff>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, SnapKV<16>>(options);
    expect_chunks_and_batches_change_no_bit<TypeParam, ExactAndLowPass<WindowAttention<3>>>(options);
}

TYPED_TEST(DeviceSelection, GoesOnFromACopyATruncationAndASavedState) {
    std::vector<Text> texts = three_texts();
    const std::vector<Text> same_text{texts[0], texts[0], texts[0]};
    SinkedKVCache<TypeParam, SnapKV<24>> cache(options, Rope(rope_options));
    const auto append = [&](Index sequence, Index first, Index count) {
        const Call call(same_text, {{sequence, count}}, {first, first, first});
        cache.append(call.queries(), call.keys(), call.values(), call.parts);
    };
    append(0, 0, 240);
    const SavedSequence<TypeParam> at_240 = cache.save(0);
    cache.fork(0, 1);
    append(0, 240, 130);
    const SavedSequence<TypeParam> at_370 = cache.save(0);
    EXPECT_TRUE(same(cache.save(1), at_240)) << "the copy does not go along";
    append(1, 240, 130);
    EXPECT_TRUE(same(cache.save(1), at_370));

    cache.load(2, at_240);
    append(2, 240, 30);
    cache.truncate(2, 240);
    append(2, 240, 130);
    EXPECT_TRUE(same(cache.save(2), at_370));

    cache.clear(2);
    append(2, 0, 370);
    EXPECT_TRUE(same(cache.save(2), at_370));
    EXPECT_GT(cache.memory().scratch, 0);
    EXPECT_EQ(cache.memory().bookkeeping, 2 * 3 * 4 + 3 * 24 * query_heads * key_dim * 4) << "counts and queries";
}

// Queries find their place in a graph as well: compressions behind it choose what they do without one.
TEST(DeviceSelectionInAGraph, KeepsTheLatestQueries) {
    using Cache = SinkedKVCache<float, SnapKV<8>>;
    Cache cache(options, Rope(rope_options));
    Cache captured(options, Rope(rope_options));
    expect_a_graph_to_be_its_calls(cache, captured, 300, 170);
    EXPECT_GT(cache.compressions(2), 0);
    EXPECT_GT(cache.compressions(0), 2);
}

TEST(DeviceSelectionErrors, NameWhatIsWrong) {
    EXPECT_EQ(message_of([] {
                  SinkedKVCache<float, ExactAndLowPass<ShortKeys>>(options, std::nullopt,
                                                                   ExactAndLowPass<ShortKeys>(0.5, 1));
              }),
              "freqkv: share is 1.000000, must be at least 0 and below 1");
    EXPECT_EQ(message_of([] { SinkedKVCache<float, SnapKV<4>>(options, std::nullopt, SnapKV<4>(0.5, 2)); }),
              "freqkv: pool is 2, must be odd and at least 1");

    const std::vector<Text> texts = three_texts();
    SinkedKVCache<float, SnapKV<4>> cache(options, Rope(rope_options));
    const Call call(texts, {{0, 5}, {2, 4}}, {0, 0, 0});
    EXPECT_EQ(message_of([&] { cache.append(call.keys(), call.keys(), call.values(), call.parts); }),
              "freqkv: heads of q is 2, must be query_heads of the cache");
    EXPECT_EQ(cache.tokens_seen(0), 0);
    cache.append(call.queries(), call.keys(), call.values(), call.parts);
    SavedSequence<float> saved = cache.save(0);
    saved.queries.pop_back();
    EXPECT_EQ(message_of([&] { cache.load(1, saved); }),
              "freqkv: queries of the saved sequence is 191, must be query_heads times key_dim for each token of the "
              "policy's window");
    EXPECT_EQ(cache.tokens_seen(1), 0);
}

}  // namespace
}  // namespace freqkv::cuda::cache_test
