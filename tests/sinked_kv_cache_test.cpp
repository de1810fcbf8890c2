// SPDX-License-Identifier: MIT
#include "freqkv/sinked_kv_cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "random_tokens.hpp"
#include "same_entries.hpp"
#include "sinked_cache_cases.hpp"

namespace freqkv::cache_test {
namespace {

using test::expect_identical;
using test::expect_same_rows;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(SinkedKVCache, CompressesOnlyWhenAFurtherTokenArrives) {
    const naive::RandomTokens<float> x(2, 200, dim, 3);
    for (const Index capacity : {10, 17, 64}) {
        for (const Index sinks : {0, 4}) {
            for (const Index recent : {0, 3}) {
                auto cache =
                    make_cache<float>({.capacity = capacity, .sinks = sinks, .recent = recent}, LowPass<>(0.5));
                const Index span = capacity - sinks - recent;
                const Index keep = span / 2;
                Index size = 0;
                Index compressions = 0;
                for (Index t = 0; t < 200; ++t) {
                    if (size == capacity) {
                        size = sinks + keep + recent;
                        ++compressions;
                    }
                    ++size;
                    cache.append(x.view().middle_tokens(t, 1), x.view().middle_tokens(t, 1));
                    ASSERT_EQ(cache.size(), size) << "after token " << t << " at capacity " << capacity;
                    ASSERT_EQ(cache.compressions(), compressions);
                    ASSERT_EQ(cache.room(), capacity - size);
                    ASSERT_LT(cache.next_position() - 1, capacity) << "positions stay below the capacity";
                }
            }
        }
    }
}

TEST(SinkedKVCache, PaperNumberOfCompressions) {
    // Capacity 4096, 4 sinks, ratio 0.5: 0, 3, 5, 7 compressions at 4K, 8K, 12K, 16K tokens.
    const naive::RandomTokens<float> x(1, 16384, 2, 4);
    auto cache = make_cache<float>({.kv_heads = 1, .key_dim = 2, .capacity = 4096}, LocalWindow(0.5));
    std::vector<Index> compressions;
    for (Index k = 0; k < 16; k += 4) {
        cache.append(x.view().middle_tokens(k * 1024, 4096), x.view().middle_tokens(k * 1024, 4096));
        compressions.push_back(cache.compressions());
    }
    EXPECT_THAT(compressions, testing::ElementsAre(0, 3, 5, 7));
}

TEST(SinkedKVCache, TakesEigenTensorsAndAnyStrides) {
    const naive::RandomTokens<float> k(2, 60, dim, 9);
    Eigen::Tensor<float, 3, Eigen::RowMajor> row_major(2, 60, dim);
    Eigen::Tensor<double, 3> column_major(2, 60, dim);
    for (Index h = 0; h < 2; ++h) {
        for (Index t = 0; t < 60; ++t) {
            for (Index d = 0; d < dim; ++d) {
                row_major(h, t, d) = k.view().head(h)(t, d);
                column_major(h, t, d) = k.view().head(h)(t, d);
            }
        }
    }
    auto a = make_cache<float>({.capacity = 20}, LowPass<>());
    auto b = make_cache<float>({.capacity = 20}, LowPass<>());
    a.append(k.view(), k.view());
    b.append(row_major, column_major);
    expect_identical(a, b);
}

TEST(SinkedKVCache, HeadsOfDifferentCapacityBehaveLikeCachesOfTheirOwn) {
    const Index tokens = 300;
    const naive::RandomTokens<float> k(3, tokens, dim, 10);
    const naive::RandomTokens<float> v(3, tokens, dim, 11);
    const std::vector<Index> capacities{16, 40, 23};
    auto ragged = make_cache<float>({.kv_heads = 3, .capacity = 40, .head_capacities = capacities}, LowPass<>());
    feed(ragged, k.view(), v.view(), 0, tokens, 37);
    for (Index h = 0; h < 3; ++h) {
        auto alone =
            make_cache<float>({.kv_heads = 1, .capacity = capacities[static_cast<std::size_t>(h)]}, LowPass<>());
        const auto one_head = [&](const KVView<const float>& x) {
            KVView<const float> view = x;
            view.data += h * x.head_stride;
            view.heads = 1;
            return view;
        };
        alone.append(one_head(k.view()), one_head(v.view()));
        EXPECT_EQ(ragged.compressions(h), alone.compressions());
        expect_same_rows(ragged.keys(h), alone.keys(0), "keys");
        expect_same_rows(ragged.values(h), alone.values(0), "values");
    }
}

TEST(SinkedKVCache, MemoryIsWhatTheSizesSayAndDoesNotGrow) {
    const naive::RandomTokens<float> k(2, 2000, dim, 19);
    auto cache = make_cache<Eigen::half>({.capacity = 64}, LowPass<>());
    const CacheMemory before = cache.memory();
    EXPECT_EQ(before.keys, 2 * 64 * dim * 2);
    EXPECT_EQ(before.values, 2 * 64 * dim * 2);
    EXPECT_EQ(before.entries(), before.keys + before.values);
    feed(cache, k.view(), k.view(), 0, 100, 1);
    const CacheMemory filled = cache.memory();
    EXPECT_EQ(filled.entries(), before.entries()) << "storage is fixed at construction";
    feed(cache, k.view(), k.view(), 100, 2000, 1);
    EXPECT_EQ(cache.memory().total(), filled.total()) << "steady state needs no more";

    auto full = make_cache<Eigen::half>({.capacity = 64}, Full{});
    feed(full, k.view(), k.view(), 0, 2000, 100);
    EXPECT_EQ(full.size(), 2000);
    EXPECT_GT(full.memory().entries(), 30 * cache.memory().entries()) << "the cache without compression did not grow";
}

TEST(SinkedKVCache, SharedWorkspaceIsHeldOnce) {
    const naive::RandomTokens<float> k(2, 300, dim, 20);
    Workspace shared;
    auto a = make_cache<float>({.capacity = 30}, LowPass<>(), &shared);
    auto b = make_cache<float>({.capacity = 30}, LowPass<>(), &shared);
    feed(a, k.view(), k.view(), 0, 300, 300);
    const Index bytes = shared.bytes();
    EXPECT_GT(bytes, 0);
    feed(b, k.view(), k.view(), 0, 300, 300);
    EXPECT_EQ(shared.bytes(), bytes);
    EXPECT_EQ(a.memory().scratch, bytes);
    EXPECT_EQ(b.memory().scratch, bytes);
}

TEST(SinkedKVCache, EntriesStandForAllTokensInOrder) {
    const naive::RandomTokens<float> k(1, 500, dim, 21);
    auto cache = make_cache<float>({.kv_heads = 1, .capacity = 50, .sinks = 4, .recent = 10}, LowPass<>());
    for (Index t = 0; t < 500; ++t) {
        cache.append(k.view().middle_tokens(t, 1), k.view().middle_tokens(t, 1));
        ASSERT_EQ(cache.entry_tokens(0, 0).begin, 0);
        for (Index i = 0; i < cache.size(); ++i) {
            const TokenRange range = cache.entry_tokens(0, i);
            ASSERT_LT(range.begin, range.end);
            if (i < 4) {
                ASSERT_EQ(range, (TokenRange{i, i + 1})) << "sinks are themselves";
            } else {
                ASSERT_LE(range.begin, cache.entry_tokens(0, i - 1).end) << "a token is lost before entry " << i;
                ASSERT_GE(range.end, cache.entry_tokens(0, i - 1).end) << "entries go back at entry " << i;
            }
        }
        ASSERT_EQ(cache.entry_tokens(0, cache.size() - 1), (TokenRange{t, t + 1})) << "the latest is itself";
    }
    EXPECT_THROW(cache.entry_tokens(0, cache.size()), Error);
    EXPECT_THROW(cache.entry_tokens(1, 0), Error);
}

TEST(SinkedKVCache, AWindowsEntriesAreTheLatestTokens) {
    const naive::RandomTokens<float> k(1, 500, dim, 22);
    auto cache = make_cache<float>({.kv_heads = 1, .capacity = 20}, LocalWindow());
    cache.append(k.view(), k.view());
    for (Index i = 4; i < cache.size(); ++i) {
        EXPECT_EQ(cache.entry_tokens(0, i), (TokenRange{500 - cache.size() + i, 501 - cache.size() + i}));
    }
}

TEST(SinkedKVCache, WithoutCompressionKeysAreRotatedAtTheirPlaceInTheText) {
    const Index tokens = 700;
    const naive::RandomTokens<float> k(2, tokens, dim, 23);
    SinkedKVCache<float, Full> cache({.kv_heads = 2, .key_dim = dim}, Rope<float>(rope_options(), 10));
    feed(cache, k.view(), k.view(), 0, tokens, 13);
    ASSERT_EQ(cache.size(1), tokens);
    EXPECT_FALSE(cache.prepare());
    for (const Index t : {0, 9, 10, 699}) {
        const naive::Row key = naive::rotated(naive::row(k.view().head(1), t), t, rotary());
        for (Index d = 0; d < dim; ++d) {
            EXPECT_NEAR(cache.keys(1)(t, d), key[static_cast<std::size_t>(d)], 1e-5) << "token " << t;
        }
    }
    cache.truncate(3);
    EXPECT_EQ(cache.size(), 3);
}

TEST(SinkedKVCacheErrors, NameTheParameterItsValueAndWhatIsAllowed) {
    const auto make = [](CacheOptions options, double ratio = 0.5) {
        return [=] { make_cache<float>(options, LowPass<>(ratio)); };
    };
    EXPECT_THAT(make({.capacity = 5}),
                ThrowsMessage<Error>(HasSubstr("capacity is 5, must be at least sinks + recent + 2")));
    EXPECT_THAT(make({.capacity = 12, .sinks = 4, .recent = 7}), ThrowsMessage<Error>(HasSubstr("capacity is 12")));
    EXPECT_NO_THROW(make({.capacity = 13, .sinks = 4, .recent = 7})());
    EXPECT_THAT(make({.capacity = 0}), ThrowsMessage<Error>(HasSubstr("capacity is 0")));
    EXPECT_THAT(make({.capacity = -1}), ThrowsMessage<Error>(HasSubstr("capacity is -1, must not be negative")));
    EXPECT_THAT(make({.capacity = 64, .sinks = -1}), ThrowsMessage<Error>(HasSubstr("sinks is -1")));
    EXPECT_THAT(make({.capacity = 64, .recent = -2}), ThrowsMessage<Error>(HasSubstr("recent is -2")));
    EXPECT_THAT(make({.capacity = 64, .sinks = std::numeric_limits<Index>::max()}),
                ThrowsMessage<Error>(HasSubstr("capacity is 64")));
    EXPECT_THAT(make({.capacity = 64}, 0.0), ThrowsMessage<Error>(HasSubstr("ratio is 0.0")));
    EXPECT_THAT(make({.capacity = 64}, 1.0), ThrowsMessage<Error>(HasSubstr("ratio is 1.0")));
    EXPECT_THAT(make({.capacity = 64}, -3.0), ThrowsMessage<Error>(HasSubstr("ratio is -3.0")));
    EXPECT_THAT(make({.capacity = 64}, std::nan("")), ThrowsMessage<Error>(HasSubstr("ratio is nan")));
    EXPECT_THAT(make({.capacity = 64}, 0.01), ThrowsMessage<Error>(HasSubstr("keeps nothing")));
    EXPECT_THAT(make({.kv_heads = 3, .query_heads = 4, .capacity = 64}),
                ThrowsMessage<Error>(HasSubstr("query_heads is 4, must be a multiple of kv_heads")));
    EXPECT_THAT(make({.kv_heads = -3, .capacity = 64}), ThrowsMessage<Error>(HasSubstr("kv_heads is -3")));
    EXPECT_THAT(make({.capacity = 64, .head_capacities = {64}}),
                ThrowsMessage<Error>(HasSubstr("number of head_capacities is 1")));
    EXPECT_THAT(make({.capacity = 64, .head_capacities = {64, 5}}), ThrowsMessage<Error>(HasSubstr("capacity is 5")));
    EXPECT_THAT(([] {
                    SinkedKVCache<float, LocalWindow>({.kv_heads = 1, .key_dim = 4, .capacity = 64},
                                                      Rope<float>({.head_dim = 6}, 64));
                }),
                ThrowsMessage<Error>(HasSubstr("head_dim of the rope is 6, must be key_dim of the cache")));
}

TEST(SinkedKVCacheErrors, BadAppendsChangeNothing) {
    const naive::RandomTokens<float> k(2, 100, dim, 24);
    const naive::RandomTokens<float> three_heads(3, 100, dim, 25);
    const naive::RandomTokens<float> narrow(2, 100, dim - 1, 26);
    auto cache = make_cache<float>({.capacity = 30}, LowPass<>());
    feed(cache, k.view(), k.view(), 0, 50, 50);
    const auto before = cache;
    const auto append = [&](const auto& a, const auto& b) { return [&cache, a, b] { cache.append(a, b); }; };
    EXPECT_THAT(append(three_heads.view(), k.view()), ThrowsMessage<Error>(HasSubstr("heads of k is 3")));
    EXPECT_THAT(append(k.view(), three_heads.view()), ThrowsMessage<Error>(HasSubstr("heads of v is 3")));
    EXPECT_THAT(append(narrow.view(), k.view()), ThrowsMessage<Error>(HasSubstr("head_dim of k is 7")));
    EXPECT_THAT(append(k.view(), narrow.view()), ThrowsMessage<Error>(HasSubstr("head_dim of v is 7")));
    EXPECT_THAT(append(k.view(), k.view().middle_tokens(0, 9)), ThrowsMessage<Error>(HasSubstr("tokens of v is 9")));
    expect_identical(before, cache);
    EXPECT_THROW(static_cast<void>(cache.keys(2)), Error);
    EXPECT_THROW(static_cast<void>(cache.size(-1)), Error);
}

}  // namespace
}  // namespace freqkv::cache_test
