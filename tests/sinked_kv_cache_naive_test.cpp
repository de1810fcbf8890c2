// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>

#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "naive_cache.hpp"
#include "sinked_cache_cases.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif

namespace freqkv::cache_test {
namespace {

template <class T>
double tolerance() {
    if constexpr (std::is_same_v<T, double>) return 1e-12;
    if constexpr (std::is_same_v<T, float>) return 1e-5;
    if constexpr (std::is_same_v<T, Eigen::half>) return 5e-3;
    return 4e-2;
}

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

TEST_P(AgainstNaive, FloatEntriesAreTheMethods) { check_policies_against_naive<float>(GetParam()); }
TEST_P(AgainstNaive, DoubleEntriesAreTheMethods) { check_policies_against_naive<double>(GetParam()); }
TEST_P(AgainstNaive, HalfEntriesAreTheMethods) { check_policies_against_naive<Eigen::half>(GetParam()); }
TEST_P(AgainstNaive, BFloat16EntriesAreTheMethods) { check_policies_against_naive<Eigen::bfloat16>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Layouts, AgainstNaive,
                         testing::Values(Layout{16, 4, 0, 0.5, 100},    // many compressions
                                         Layout{33, 3, 7, 0.25, 150},   // recent part, odd span
                                         Layout{20, 0, 0, 0.9, 77},     // no sinks
                                         Layout{6, 4, 0, 0.5, 50},      // the smallest span, 2 -> 1
                                         Layout{12, 1, 8, 0.5, 64},     // most of the cache is recent
                                         Layout{64, 4, 16, 0.5, 64},    // exactly full: nothing is compressed
                                         Layout{64, 4, 16, 0.5, 65}));  // one more token: once

}  // namespace
}  // namespace freqkv::cache_test
