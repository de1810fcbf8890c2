// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <string>
#include <thread>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/residual_energy.hpp"
#include "freqkv/policy/window_attention.hpp"
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

// What reads queries and attention is fed through attention: whole on threads, and token by token on one.
template <class P>
void expect_threads_agree(const P& policy) {
    const Index tokens = 700;
    const naive::RandomTokens<float> q(6, tokens, dim, 9);
    const naive::RandomTokens<float> k(3, tokens, dim, 7);
    const naive::RandomTokens<float> v(3, tokens, dim, 8);
    const CacheOptions options{.kv_heads = 3, .query_heads = 6, .capacity = 300, .sinks = 3, .recent = 40};
    naive::RandomTokens<float> out = q;
    const auto fed = [&](const auto& executor, Index chunk) {
        auto cache = make_cache<float>(options, policy);
        ChunkedAttention<float> attention;
        for (Index t = 0; t < tokens; t += chunk) {
            attention.forward(q.view().middle_tokens(t, chunk), k.view().middle_tokens(t, chunk),
                              v.view().middle_tokens(t, chunk), cache, out.view().middle_tokens(t, chunk), executor);
        }
        EXPECT_GT(cache.compressions(), 1);
        return cache;
    };
    const auto serial = fed(SerialExecutor{}, 1);
    expect_identical(serial, fed(ThreadsExecutor{}, tokens));
#if defined(_OPENMP)
    expect_identical(serial, fed(OpenMPExecutor(2), 7));
#endif
}

TEST(SinkedKVCache, ThreadsDoNotChangeABitUnderSelections) {
    expect_threads_agree(SnapKV<16>());
    expect_threads_agree(HeavyHitters());
    expect_threads_agree(KeyDiff());
}

TEST(SinkedKVCache, ThreadsDoNotChangeABitUnderHybrids) {
    expect_threads_agree(ExactAndLowPass<WindowAttention<16>>());
    expect_threads_agree(ExactAndLowPass<AccumulatedAttention>(0.5, 0.3, {.decay = 0.99}));
    expect_threads_agree(ExactAndLowPass<ResidualEnergy>());
}

}  // namespace
}  // namespace freqkv::cache_test
