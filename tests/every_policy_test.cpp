// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "every_policy.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/freqkv.hpp"
#include "model_cache.hpp"
#include "same_entries.hpp"

// What the cache promises whatever the policy, for every policy of the library.
namespace freqkv {
namespace {

using test::expect_identical;
using testing_model::append;
using testing_model::Text;

template <class C>
class EveryPolicy : public testing::Test {};

TYPED_TEST_SUITE(EveryPolicy, test::EveryPolicyCases);

TYPED_TEST(EveryPolicy, LeavesTheSameEntriesInChunksOfAnySize) {
    const Text text = Text::random(500);
    const auto whole = [&](Index piece) {
        auto cache = TypeParam::cache(text);
        for (Index t = 0; t < text.tokens; t += piece) append(cache, text, t, std::min(piece, text.tokens - t));
        return cache;
    };
    const auto expected = whole(text.tokens);
    EXPECT_GT(expected.compressions(), 3);
    for (const Index piece : {1, 7, 64, 100}) {
        SCOPED_TRACE("pieces of " + std::to_string(piece));
        expect_identical(expected, whole(piece));
    }
}

TYPED_TEST(EveryPolicy, LeavesTheSameEntriesOnThreads) {
    const Text text = Text::random(500);
    auto serial = TypeParam::cache(text);
    append(serial, text, 0, text.tokens);
    EXPECT_GT(serial.compressions(), 3);
#if defined(_OPENMP)
    auto threaded = TypeParam::cache(text);
    append(threaded, text, 0, text.tokens, OpenMPExecutor(3));
    expect_identical(serial, threaded);
#endif
}

// What was taken back has left no trace, neither in what is there nor in what becomes of it.
TYPED_TEST(EveryPolicy, TakesTokensBackToTheLastBit) {
    const Text text = Text::random(500), other = Text::random(500, 2, 99);
    for (const Index seen : {50, 79, 80, 95, 130, 300}) {
        auto plain = TypeParam::cache(text);
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
    auto cache = TypeParam::cache(text);
    append(cache, text, 0, 250);
    auto fork = cache;
    append(fork, other, 250, 200);  // does nothing to the first
    auto expected = TypeParam::cache(text);
    append(expected, text, 0, 450);
    append(cache, text, 250, 200);
    expect_identical(expected, cache);
}

TYPED_TEST(EveryPolicy, HoldsNoMoreThanItsCapacity) {
    const Text text = Text::random(500);
    auto cache = TypeParam::cache(text);
    const CacheMemory empty = cache.memory();
    for (Index t = 0; t < text.tokens; ++t) {
        append(cache, text, t, 1);
        ASSERT_LE(cache.size(), 80);
    }
    EXPECT_EQ(cache.memory().entries(), empty.entries());
    EXPECT_EQ(cache.memory().bookkeeping, empty.bookkeeping);
    using T = typename TypeParam::Stored;
    Index bytes = 0;
    for (const Index dim : {text.key_dim, text.value_dim}) {
        if constexpr (is_packed<T>) {
            // 64 that are packed, 3 sinks, and 4 of the latest with the next block.
            bytes += 64 * row_length<T>(dim) * static_cast<Index>(sizeof(T)) + (3 + 4 + 64) * dim * 2;
        } else {
            bytes += 80 * dim * static_cast<Index>(sizeof(T));
        }
    }
    EXPECT_EQ(empty.entries(), text.kv_heads * bytes);
}

}  // namespace
}  // namespace freqkv
