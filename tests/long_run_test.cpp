// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "freqkv/freqkv.hpp"
#include "random_tokens.hpp"

// A million tokens through one cache, thousands of compressions on top of each other: nothing drifts, nothing
// blows up, and every compression says what it discarded.
using namespace freqkv;

namespace {

constexpr Index dim = 4, heads = 1, capacity = 128, chunk = 1000, chunks = 1000;

// What the reports of a cache's compressions add up to.
struct Reports {
    Index count = 0;
    double largest_discarded_part = 0;
    bool possible = true;

    static void receive(void* context, const CompressionReport& report) {
        auto& self = *static_cast<Reports*>(context);
        ++self.count;
        for (const Energy& energy : {report.keys, report.values}) {
            self.possible &= energy.total > 0 && energy.discarded >= 0 && energy.discarded <= energy.total;
            self.largest_discarded_part = std::max(self.largest_discarded_part, energy.discarded / energy.total);
        }
    }
};

template <class T>
SinkedKVCache<T, LowPass<>> make_cache(Reports& reports) {
    return {{.kv_heads = heads, .key_dim = dim, .capacity = capacity, .observer = {&Reports::receive, &reports}},
            Rope<Arithmetic<T>>({.head_dim = dim}, capacity),
            LowPass<>(0.5)};
}

// The mean square of a cache's keys, which rotation does not change.
template <class T>
double mean_square(const SinkedKVCache<T, LowPass<>>& cache) {
    double sum = 0;
    for (Index i = 0; i < cache.size(); ++i) {
        for (Index d = 0; d < dim; ++d) sum += std::pow(static_cast<double>(cache.keys(0)(i, d)), 2);
    }
    return sum / static_cast<double>(cache.size() * dim);
}

template <class T>
void check_constant_stays_constant(double tolerance, double discarded) {
    Reports reports;
    auto cache = make_cache<T>(reports);
    const std::vector<float> ones(static_cast<std::size_t>(chunk * dim), 1.0F);
    const KVView<const float> x(ones.data(), heads, chunk, dim);
    double worst = 0;
    for (Index i = 0; i < chunks; ++i) {
        cache.append(x, x);
        for (Index e = 0; e < cache.size() && i % 10 == 0; ++e) {
            const naive::Row key = naive::rotated(naive::row(cache.keys(0), e), -e, {.rotated_dims = dim});
            for (Index d = 0; d < dim; ++d) {
                worst = std::max(worst, std::abs(key[static_cast<std::size_t>(d)] - 1));
                worst = std::max(worst, std::abs(static_cast<double>(cache.values(0)(e, d)) - 1));
            }
        }
    }
    EXPECT_EQ(cache.tokens_seen(), 1000000);
    EXPECT_GT(cache.compressions(), 16000);
    EXPECT_LT(worst, tolerance) << "a constant text's keys or values left 1";
    EXPECT_EQ(reports.count, cache.compressions());
    EXPECT_TRUE(reports.possible);
    EXPECT_LT(reports.largest_discarded_part, discarded) << "of a text that has no high frequencies";
}

}  // namespace

TEST(LongRun, ConstantInputStaysConstant) {
    check_constant_stays_constant<double>(1e-12, 1e-13);
    check_constant_stays_constant<float>(1e-4, 1e-6);
    check_constant_stays_constant<Eigen::half>(5e-3, 1e-5);
    check_constant_stays_constant<Eigen::bfloat16>(3e-2, 1e-3);
}

TEST(LongRun, RandomInputStaysBounded) {
    Reports reports;
    Reports half_reports;
    auto cache = make_cache<float>(reports);
    auto half = make_cache<Eigen::half>(half_reports);
    double early = 0;
    double late = 0;
    for (Index i = 0; i < chunks; ++i) {
        const naive::RandomTokens<float> x(heads, chunk, dim, 41 + static_cast<unsigned>(i));
        cache.append(x.view(), x.view());
        half.append(x.view(), x.view());
        (i < chunks / 2 ? early : late) += mean_square(cache);
        for (Index e = 0; e < cache.size() && i % 10 == 0; ++e) {
            for (Index d = 0; d < dim; ++d) {
                ASSERT_NEAR(cache.keys(0)(e, d), static_cast<float>(half.keys(0)(e, d)), 2e-2)
                    << "16-bit storage drifts from float after " << (i + 1) * chunk << " tokens";
            }
        }
    }
    EXPECT_EQ(cache.tokens_seen(), 1000000);
    EXPECT_NEAR(late / early, 1, 0.02) << "the amplitude drifts between the first and the second half";
    EXPECT_EQ(reports.count, cache.compressions());
    EXPECT_TRUE(reports.possible && half_reports.possible);
    EXPECT_GT(reports.largest_discarded_part, 0.1) << "noise has high frequencies";
}
