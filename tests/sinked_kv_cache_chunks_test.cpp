// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <string>
#include <thread>
#include <vector>

#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "random_tokens.hpp"
#include "same_entries.hpp"
#include "sinked_cache_cases.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif

namespace freqkv::cache_test {
namespace {

using test::expect_identical;

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

TYPED_TEST(ChunkInvariance, ChunksDoNotChangeABitUnderLowPass) { check_chunk_invariance<TypeParam>(LowPass<>(0.5)); }
TYPED_TEST(ChunkInvariance, ChunksDoNotChangeABitUnderLowPassOddRatio) {
    check_chunk_invariance<TypeParam>(LowPass<>(0.37));
}
TYPED_TEST(ChunkInvariance, ChunksDoNotChangeABitUnderLocalWindow) {
    check_chunk_invariance<TypeParam>(LocalWindow(0.5));
}
TYPED_TEST(ChunkInvariance, ChunksDoNotChangeABitUnderFull) { check_chunk_invariance<TypeParam>(Full{}); }
TYPED_TEST(ChunkInvariance, ChunksDoNotChangeABitUnderLowPassDirect) {
    check_chunk_invariance<TypeParam>(LowPass<dct::Direct>(0.5));
}
#if defined(FREQKV_HAS_FFTW)
TYPED_TEST(ChunkInvariance, ChunksDoNotChangeABitUnderLowPassFftw) {
    check_chunk_invariance<TypeParam>(LowPass<dct::Fftw>(0.5));
}
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

}  // namespace
}  // namespace freqkv::cache_test
