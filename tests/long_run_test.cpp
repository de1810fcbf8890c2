// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "freqkv/freqkv.hpp"
#include "naive_cache.hpp"

// Hundreds of compressions on top of each other: nothing drifts, nothing blows up.
using namespace freqkv;

namespace {

constexpr Index dim = 4, heads = 1, capacity = 64, chunk = 1000, chunks = 100;

template <class T>
SinkedKVCache<T, LowPass<>> make_cache() {
    return {{.kv_heads = heads, .key_dim = dim, .capacity = capacity},
            Rope<Arithmetic<T>>({.head_dim = dim}, capacity),
            LowPass<>(0.5)};
}

template <class T>
double largest_key(const SinkedKVCache<T, LowPass<>>& cache) {
    double largest = 0;
    for (Index i = 0; i < cache.size(); ++i) {
        for (Index d = 0; d < dim; ++d) largest = std::max(largest, std::abs(static_cast<double>(cache.keys(0)(i, d))));
    }
    return largest;
}

template <class T>
void check_constant_stays_constant(double tolerance) {
    auto cache = make_cache<T>();
    const std::vector<float> ones(static_cast<std::size_t>(chunk * dim), 1.0F);
    const KVView<const float> x(ones.data(), heads, chunk, dim);
    double worst = 0;
    for (Index i = 0; i < chunks; ++i) {
        cache.append(x, x);
        for (Index e = 0; e < cache.size(); ++e) {
            const naive::Row key = naive::rotated(naive::row(cache.keys(0), e), -e, {.rotated_dims = dim});
            for (Index d = 0; d < dim; ++d) {
                worst = std::max(worst, std::abs(key[static_cast<std::size_t>(d)] - 1));
                worst = std::max(worst, std::abs(static_cast<double>(cache.values(0)(e, d)) - 1));
            }
        }
    }
    EXPECT_GT(cache.compressions(), 3000);
    EXPECT_LT(worst, tolerance) << "a constant text's keys or values left 1";
}

}  // namespace

TEST(LongRun, ConstantInputStaysConstant) {
    check_constant_stays_constant<double>(1e-12);
    check_constant_stays_constant<float>(1e-4);
    check_constant_stays_constant<Eigen::half>(5e-3);
    check_constant_stays_constant<Eigen::bfloat16>(3e-2);
}

TEST(LongRun, RandomInputStaysBounded) {
    auto cache = make_cache<float>();
    auto half = make_cache<Eigen::half>();
    const naive::RandomTokens<float> x(heads, chunk, dim, 41);
    double early = 0;
    double late = 0;
    for (Index i = 0; i < chunks; ++i) {
        cache.append(x.view(), x.view());
        half.append(x.view(), x.view());
        (i < 5 ? early : late) = std::max(i < 5 ? early : late, largest_key(cache));
        for (Index e = 0; e < cache.size(); ++e) {
            for (Index d = 0; d < dim; ++d) {
                ASSERT_NEAR(cache.keys(0)(e, d), static_cast<float>(half.keys(0)(e, d)), 2e-2)
                    << "16-bit storage drifts from float after " << (i + 1) * chunk << " tokens";
            }
        }
    }
    EXPECT_LE(late, 1.001 * early) << "the amplitude grows";
}
