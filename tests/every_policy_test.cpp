// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "freqkv/executor.hpp"
#include "freqkv/freqkv.hpp"
#include "model_cache.hpp"
#include "same_entries.hpp"

// What the cache promises whatever the policy, for every policy of the library.
namespace freqkv {
namespace {

using test::expect_identical;
using testing_model::append;
using testing_model::cache_options;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::Text;

template <class P>
class EveryPolicy : public testing::Test {
protected:
    static CacheOptions options(const Text& text) { return cache_options(text, 80, 3, 20); }
};

using Policies =
    testing::Types<LowPass<>, LocalWindow, SnapKV<>, Tova, HeavyHitters, KeyDiff, KeyNorm, ValueNorm, BlockMean, Merge,
                   TieredLowPass<>, EqualWeightLowPass<>, ExactAndLowPass<WindowAttention<16>>,
                   ExactAndLowPass<AccumulatedAttention>, ExactAndLowPass<ResidualEnergy>>;
TYPED_TEST_SUITE(EveryPolicy, Policies);

TYPED_TEST(EveryPolicy, LeavesTheSameEntriesInChunksOfAnySize) {
    const Text text = Text::random(500);
    expect_chunks_agree<float>(TypeParam(), this->options(text), text);
}

TYPED_TEST(EveryPolicy, LeavesTheSameEntriesOnThreads) {
    const Text text = Text::random(500);
    auto serial = make_cache<float>(text, this->options(text), TypeParam());
    append(serial, text, 0, text.tokens);
    EXPECT_GT(serial.compressions(), 3);
#if defined(_OPENMP)
    auto threaded = make_cache<float>(text, this->options(text), TypeParam());
    append(threaded, text, 0, text.tokens, OpenMPExecutor(3));
    expect_identical(serial, threaded);
#endif
}

// What was taken back has left no trace, neither in what is there nor in what becomes of it.
TYPED_TEST(EveryPolicy, TakesTokensBackToTheLastBit) {
    const Text text = Text::random(500), other = Text::random(500, 2, 99);
    for (const Index seen : {50, 79, 80, 95, 130, 300}) {
        auto plain = make_cache<float>(text, this->options(text), TypeParam());
        append(plain, text, 0, seen);
        if constexpr (plain.has_attention_mass) {
            EXPECT_EQ(plain.earliest_truncation(), seen) << "what has been added up cannot be taken back";
            continue;
        }
        auto back = plain;
        const Index extra = plain.room();
        append(back, other, seen, extra);
        back.truncate(seen);
        expect_identical(plain, back);
        append(plain, text, seen, 200);
        append(back, text, seen, 200);
        SCOPED_TRACE(std::to_string(extra) + " tokens taken back at " + std::to_string(seen));
        ASSERT_NO_FATAL_FAILURE(expect_identical(plain, back));
    }
}

TYPED_TEST(EveryPolicy, GoesOnInAForkAsInItself) {
    const Text text = Text::random(500), other = Text::random(500, 2, 99);
    auto cache = make_cache<float>(text, this->options(text), TypeParam());
    append(cache, text, 0, 250);
    auto fork = cache;
    append(fork, other, 250, 200);  // does nothing to the first
    auto expected = make_cache<float>(text, this->options(text), TypeParam());
    append(expected, text, 0, 450);
    append(cache, text, 250, 200);
    expect_identical(expected, cache);
}

TYPED_TEST(EveryPolicy, HoldsNoMoreThanItsCapacity) {
    const Text text = Text::random(500);
    auto cache = make_cache<float>(text, this->options(text), TypeParam());
    const CacheMemory empty = cache.memory();
    for (Index t = 0; t < text.tokens; ++t) {
        append(cache, text, t, 1);
        ASSERT_LE(cache.size(), 80);
    }
    EXPECT_EQ(cache.memory().entries(), empty.entries());
    EXPECT_EQ(cache.memory().bookkeeping, empty.bookkeeping);
    EXPECT_EQ(empty.entries(),
              text.kv_heads * 80 * (text.key_dim + text.value_dim) * static_cast<Index>(sizeof(float)));
}

}  // namespace
}  // namespace freqkv
