// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "random_tokens.hpp"
#include "same_entries.hpp"
#include "sinked_cache_cases.hpp"

namespace freqkv::cache_test {
namespace {

using test::expect_identical;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(SinkedKVCache, TruncationIsAsIfTheRestHadNeverBeenSeen) {
    const naive::RandomTokens<float> k(2, 400, dim, 12);
    const naive::RandomTokens<float> other(2, 400, dim, 13);
    for (const Index seen : {0, 1, 29, 30, 31, 40, 43, 44, 57, 100}) {
        auto plain = make_cache<float>({.capacity = 30, .recent = 5}, LowPass<>());
        feed(plain, k.view(), k.view(), 0, seen, 1000);
        for (Index extra = 0; extra <= plain.room(); ++extra) {
            auto back = plain;
            back.append(other.view().middle_tokens(0, extra), other.view().middle_tokens(0, extra));
            back.truncate(seen);
            auto expected = plain;
            feed(back, k.view(), k.view(), seen, 200, 3);
            feed(expected, k.view(), k.view(), seen, 200, 1000);
            SCOPED_TRACE(std::to_string(extra) + " tokens taken back at " + std::to_string(seen));
            expect_identical(expected, back);
        }
    }
}

TEST(SinkedKVCache, TruncationToTheCompressedStateIsExactToo) {
    const naive::RandomTokens<float> k(2, 400, dim, 14);
    auto plain = make_cache<float>({.capacity = 30}, LowPass<>());
    feed(plain, k.view(), k.view(), 0, 30, 30);
    auto back = plain;
    back.append(k.view().middle_tokens(300, 5), k.view().middle_tokens(300, 5));  // compresses at 30
    EXPECT_EQ(back.earliest_truncation(), 30);
    back.truncate(30);
    feed(plain, k.view(), k.view(), 30, 300, 50);
    feed(back, k.view(), k.view(), 30, 300, 50);
    expect_identical(plain, back);
}

TEST(SinkedKVCache, TruncationAcrossACompressionIsRefused) {
    const naive::RandomTokens<float> k(2, 400, dim, 15);
    auto cache = make_cache<float>({.capacity = 30}, LowPass<>());
    feed(cache, k.view(), k.view(), 0, 50, 50);
    const auto before = cache;
    const Index earliest = cache.earliest_truncation();
    EXPECT_THAT([&] { cache.truncate(earliest - 1); }, ThrowsMessage<Error>(HasSubstr("tokens to keep is 42")));
    EXPECT_THROW(cache.truncate(51), Error);
    EXPECT_THROW(cache.truncate(-1), Error);
    expect_identical(before, cache);
    cache.truncate(earliest);
    EXPECT_EQ(cache.tokens_seen(), earliest);
}

TEST(SinkedKVCache, PreparingEarlyMakesTheStateTheNextTokenWouldHaveMade) {
    const naive::RandomTokens<float> k(2, 400, dim, 16);
    auto plain = make_cache<float>({.capacity = 30}, LowPass<>());
    feed(plain, k.view(), k.view(), 0, 29, 29);
    EXPECT_FALSE(plain.prepare()) << "there is room for a token";
    EXPECT_EQ(plain.compressions(), 0);
    feed(plain, k.view(), k.view(), 29, 30, 1);
    auto prepared = plain;
    EXPECT_TRUE(prepared.prepare());
    EXPECT_FALSE(prepared.prepare()) << "nothing to do a second time";
    EXPECT_EQ(prepared.compressions(), 1);
    EXPECT_EQ(prepared.next_position(), 17);
    feed(plain, k.view(), k.view(), 30, 200, 200);
    feed(prepared, k.view(), k.view(), 30, 200, 200);
    expect_identical(plain, prepared);
}

TEST(SinkedKVCache, ClearIsAsNew) {
    const naive::RandomTokens<float> k(2, 400, dim, 17);
    auto used = make_cache<float>({.capacity = 30}, LowPass<>());
    feed(used, k.view(), k.view(), 100, 300, 200);
    used.clear();
    EXPECT_EQ(used.size(), 0);
    EXPECT_EQ(used.tokens_seen(), 0);
    auto fresh = make_cache<float>({.capacity = 30}, LowPass<>());
    feed(used, k.view(), k.view(), 0, 100, 100);
    feed(fresh, k.view(), k.view(), 0, 100, 100);
    expect_identical(fresh, used);
}

TEST(SinkedKVCache, ACopyIsAFork) {
    const naive::RandomTokens<float> k(2, 400, dim, 18);
    Workspace shared;
    for (Workspace* workspace : {static_cast<Workspace*>(nullptr), &shared}) {
        auto original = make_cache<float>({.capacity = 30}, LowPass<>(), workspace);
        feed(original, k.view(), k.view(), 0, 50, 50);
        auto expected = make_cache<float>({.capacity = 30}, LowPass<>());
        feed(expected, k.view(), k.view(), 0, 50, 50);
        auto fork = original;
        feed(fork, k.view(), k.view(), 200, 300, 100);
        expect_identical(expected, original);
        feed(expected, k.view(), k.view(), 50, 150, 9);
        feed(original, k.view(), k.view(), 50, 150, 100);
        expect_identical(expected, original);
        fork = original;
        feed(fork, k.view(), k.view(), 150, 250, 100);
        feed(expected, k.view(), k.view(), 150, 250, 100);
        expect_identical(expected, fork);
    }
}

}  // namespace
}  // namespace freqkv::cache_test
