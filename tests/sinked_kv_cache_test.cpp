// SPDX-License-Identifier: MIT
#include "freqkv/sinked_kv_cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <bit>
#include <cstring>
#include <string>
#include <thread>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "naive_cache.hpp"
#include "same_entries.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif

using namespace freqkv;
using freqkv::test::expect_identical;
using freqkv::test::expect_same_rows;
using testing::HasSubstr;
using testing::ThrowsMessage;

namespace {

constexpr Index dim = 8;

naive::Rotary rotary(RopePairing pairing = RopePairing::adjacent) {
    return {.rotated_dims = dim, .adjacent = pairing == RopePairing::adjacent};
}

RopeOptions rope_options(RopePairing pairing = RopePairing::adjacent) { return {.head_dim = dim, .pairing = pairing}; }

template <class T, class P>
SinkedKVCache<T, P> make_cache(CacheOptions options, P policy = P{}, Workspace* shared = nullptr) {
    options.kv_heads = options.kv_heads == 0 ? 2 : options.kv_heads;
    options.key_dim = options.key_dim == 0 ? dim : options.key_dim;
    Rope<Arithmetic<T>> rope({.head_dim = options.key_dim}, std::max<Index>(options.capacity, 0));
    return SinkedKVCache<T, P>(options, rope, policy, shared);
}

template <class Cache, class K, class V>
void feed(Cache& cache, const KVView<const K>& k, const KVView<const V>& v, Index begin, Index end, Index chunk) {
    for (Index t = begin; t < end; t += chunk) {
        const Index count = std::min(chunk, end - t);
        cache.append(k.middle_tokens(t, count), v.middle_tokens(t, count));
    }
}

// A thread pool of a user's, as the executor's documentation describes it.
struct ThreadsExecutor {
    Index threads = 3;
    Index concurrency() const { return threads; }
    template <class F>
    void for_each(Index count, F&& f) const {
        std::vector<std::thread> pool;
        for (Index w = 0; w < threads; ++w) {
            pool.emplace_back([&, w] {
                for (Index task = w; task < count; task += threads) f(task, w);
            });
        }
        for (std::thread& thread : pool) thread.join();
    }
};
static_assert(Executor<ThreadsExecutor>);

template <class T>
double tolerance() {
    if constexpr (std::is_same_v<T, double>) return 1e-12;
    if constexpr (std::is_same_v<T, float>) return 1e-5;
    if constexpr (std::is_same_v<T, Eigen::half>) return 5e-3;
    return 4e-2;
}

}  // namespace

// ---- what is stored, against the method written down naively ------------------------------------------

struct Layout {
    Index capacity, sinks, recent;
    double ratio;
    Index tokens;
};

class AgainstNaive : public testing::TestWithParam<Layout> {};

template <class T, class P>
void check_against_naive(const Layout& layout, P policy, naive::CompressSpan compress, RopePairing pairing) {
    const Index heads = 2, value_dim = 5;
    const naive::RandomTokens<float> k(heads, layout.tokens, dim, 1);
    const naive::RandomTokens<float> v(heads, layout.tokens, value_dim, 2);
    const Rope<Arithmetic<T>> rope(rope_options(pairing), layout.capacity);
    SinkedKVCache<T, P> cache({.kv_heads = heads,
                               .key_dim = dim,
                               .value_dim = value_dim,
                               .capacity = layout.capacity,
                               .sinks = layout.sinks,
                               .recent = layout.recent},
                              rope, policy);
    cache.append(k.view(), v.view());
    for (Index h = 0; h < heads; ++h) {
        naive::Cache naive_cache(1, layout.capacity, rotary(pairing),
                                 naive::whole_span(layout.sinks, layout.recent, layout.ratio, compress));
        for (Index t = 0; t < layout.tokens; ++t) {
            naive_cache.append({naive::row(k.view().head(h), t)}, {naive::row(v.view().head(h), t)});
        }
        const naive::Head& expected = naive_cache.heads[0];
        ASSERT_EQ(cache.size(h), static_cast<Index>(expected.size())) << "size of head " << h;
        EXPECT_EQ(cache.compressions(h), expected.compressions) << "compressions of head " << h;
        for (Index i = 0; i < cache.size(h); ++i) {
            const auto at = static_cast<std::size_t>(i);
            const naive::Row key = naive_cache.rotated(expected.keys[at], at);
            for (Index d = 0; d < dim; ++d) {
                ASSERT_NEAR(static_cast<double>(cache.keys(h)(i, d)), key[static_cast<std::size_t>(d)],
                            3 * tolerance<T>())
                    << "key of entry " << i << ", head " << h << ", dim " << d;
            }
            for (Index d = 0; d < value_dim; ++d) {
                ASSERT_NEAR(static_cast<double>(cache.values(h)(i, d)),
                            expected.values[at][static_cast<std::size_t>(d)], 3 * tolerance<T>())
                    << "value of entry " << i << ", head " << h << ", dim " << d;
            }
        }
    }
}

template <class T>
void check_policies_against_naive(const Layout& layout) {
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        check_against_naive<T>(layout, LowPass<>(layout.ratio), &naive::Head::low_pass, pairing);
        check_against_naive<T>(layout, LowPass<dct::Direct>(layout.ratio), &naive::Head::low_pass, pairing);
        check_against_naive<T>(layout, LocalWindow(layout.ratio), &naive::Head::select_latest, pairing);
#if defined(FREQKV_HAS_FFTW)
        check_against_naive<T>(layout, LowPass<dct::Fftw>(layout.ratio), &naive::Head::low_pass, pairing);
#endif
    }
}

TEST_P(AgainstNaive, Float) { check_policies_against_naive<float>(GetParam()); }
TEST_P(AgainstNaive, Double) { check_policies_against_naive<double>(GetParam()); }
TEST_P(AgainstNaive, Half) { check_policies_against_naive<Eigen::half>(GetParam()); }
TEST_P(AgainstNaive, BFloat16) { check_policies_against_naive<Eigen::bfloat16>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Layouts, AgainstNaive,
                         testing::Values(Layout{16, 4, 0, 0.5, 100},    // many compressions
                                         Layout{33, 3, 7, 0.25, 150},   // recent part, odd span
                                         Layout{20, 0, 0, 0.9, 77},     // no sinks
                                         Layout{6, 4, 0, 0.5, 50},      // the smallest span, 2 -> 1
                                         Layout{12, 1, 8, 0.5, 64},     // most of the cache is recent
                                         Layout{64, 4, 16, 0.5, 64},    // exactly full: nothing is compressed
                                         Layout{64, 4, 16, 0.5, 65}));  // one more token: once

// ---- boundaries -----------------------------------------------------------------------------------------

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

// ---- chunk invariance ------------------------------------------------------------------------------------

template <class T, class P>
void check_chunk_invariance(P policy) {
    const Index tokens = 1000;
    const naive::RandomTokens<float> k(2, tokens, dim, 5);
    const naive::RandomTokens<float> v(2, tokens, dim, 6);
    const CacheOptions options{.capacity = 61, .sinks = 3, .recent = 9};
    auto whole = make_cache<T>(options, policy);
    whole.append(k.view(), v.view());
    EXPECT_GT(whole.compressions() + (GrowingPolicy<P> ? 1 : 0), 0);
    for (const Index chunk : {1, 7, 333}) {
        SCOPED_TRACE("chunks of " + std::to_string(chunk));
        auto pieces = make_cache<T>(options, policy);
        feed(pieces, k.view(), v.view(), 0, tokens, chunk);
        expect_identical(whole, pieces);
    }
}

template <class T>
class ChunkInvariance : public testing::Test {};
using StorageTypes = testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(ChunkInvariance, StorageTypes);

TYPED_TEST(ChunkInvariance, LowPass) { check_chunk_invariance<TypeParam>(LowPass<>(0.5)); }
TYPED_TEST(ChunkInvariance, LowPassOddRatio) { check_chunk_invariance<TypeParam>(LowPass<>(0.37)); }
TYPED_TEST(ChunkInvariance, LocalWindow) { check_chunk_invariance<TypeParam>(LocalWindow(0.5)); }
TYPED_TEST(ChunkInvariance, Full) { check_chunk_invariance<TypeParam>(Full{}); }
TYPED_TEST(ChunkInvariance, LowPassDirect) { check_chunk_invariance<TypeParam>(LowPass<dct::Direct>(0.5)); }
#if defined(FREQKV_HAS_FFTW)
TYPED_TEST(ChunkInvariance, LowPassFftw) { check_chunk_invariance<TypeParam>(LowPass<dct::Fftw>(0.5)); }
#endif

TEST(SinkedKVCache, ThreadsDoNotChangeABit) {
    const naive::RandomTokens<float> k(5, 700, 20, 7);
    const naive::RandomTokens<float> v(5, 700, 33, 8);
    const CacheOptions options{.kv_heads = 5, .key_dim = 20, .value_dim = 33, .capacity = 90};
    auto serial = make_cache<Eigen::half>(options, LowPass<>(0.5));
    serial.append(k.view(), v.view());
    auto threaded = make_cache<Eigen::half>(options, LowPass<>(0.5));
    threaded.append(k.view(), v.view(), ThreadsExecutor{});
    expect_identical(serial, threaded);
#if defined(_OPENMP)
    auto openmp = make_cache<Eigen::half>(options, LowPass<>(0.5));
    openmp.append(k.view(), v.view(), OpenMPExecutor(2));
    expect_identical(serial, openmp);
#endif
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

// ---- heads are lists of their own -------------------------------------------------------------------------

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

// ---- truncate, prepare, clear, copy -----------------------------------------------------------------------

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

// ---- memory ----------------------------------------------------------------------------------------------

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

// ---- what entries stand for ---------------------------------------------------------------------------------

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

// ---- the growing cache ----------------------------------------------------------------------------------------

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

// ---- errors -------------------------------------------------------------------------------------------------

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
