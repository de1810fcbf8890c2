// SPDX-License-Identifier: MIT
#include "llama/model/sampler.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "llama/model/random.hpp"

namespace llama {
namespace {

const std::vector<float> logits{0.5f, 2.0f, -1.0f, 2.0f, 1.0f, -3.0f};

// exp(logit / temperature), normalised over the tokens of `among` (all if empty).
std::vector<double> probabilities(double temperature, const std::set<Token>& among = {}) {
    std::vector<double> result(logits.size());
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (among.empty() || among.contains(static_cast<Token>(i))) {
            result[i] = std::exp(static_cast<double>(logits[i]) / temperature);
        }
        sum += result[i];
    }
    for (double& value : result) value /= sum;
    return result;
}

// Draws are independent: a frequency is within 5 standard deviations of its probability, and zero
// where that is.
void expect_frequencies(const SamplerOptions& options, const std::vector<double>& expected) {
    constexpr int draws = 20000;
    Sampler sampler(options, static_cast<Index>(logits.size()));
    std::vector<int> counts(logits.size());
    for (int i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(sampler(logits))];
    for (std::size_t i = 0; i < logits.size(); ++i) {
        const double deviation = std::sqrt(expected[i] * (1 - expected[i]) / draws);
        EXPECT_NEAR(static_cast<double>(counts[i]) / draws, expected[i], 5 * deviation) << "token " << i;
    }
}

TEST(Random, IsSplitMix64) {
    Random random(0);
    EXPECT_EQ(random.next(), 0xE220A8397B1DCDAFu);
    EXPECT_EQ(random.next(), 0x6E789E6AA1B965F4u);
    EXPECT_EQ(random.next(), 0x06C45D188009454Fu);
}

TEST(Random, IsUniformBelowOne) {
    Random random(42);
    double sum = 0;
    for (int i = 0; i < 100000; ++i) {
        const double value = random.uniform();
        ASSERT_GE(value, 0.0);
        ASSERT_LT(value, 1.0);
        sum += value;
    }
    EXPECT_NEAR(sum / 100000, 0.5, 0.005);
}

TEST(Sampler, TakesTheLowestOfTheMostLikelyAtTemperatureZero) {
    Sampler sampler({}, static_cast<Index>(logits.size()));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(sampler(logits), 1);
    EXPECT_EQ(Sampler::most_likely(std::vector<float>{7.0f}), 0);
}

TEST(Sampler, DrawsFromTheSoftmax) {
    for (const double top_p : {0.0, 1.0}) {
        for (const double temperature : {0.5, 1.0, 3.0}) {
            expect_frequencies({temperature, 0, top_p, 7}, probabilities(temperature));
        }
    }
}

TEST(Sampler, TopKKeepsTheMostLikely) {
    expect_frequencies({1, 3, 1, 1}, probabilities(1, {1, 3, 4}));
    expect_frequencies({1, 1, 1, 1}, probabilities(1, {1}));  // of equals the lowest
    expect_frequencies({1, 6, 1, 1}, probabilities(1));
    expect_frequencies({1, 1000, 1, 1}, probabilities(1));
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
    // In order: tokens 1 and 3 with 0.37 each, 4 with 0.14, 0 with 0.08, 2 with 0.02, 5 with 0.002.
    expect_frequencies({1, 0, 0.3, 1}, probabilities(1, {1}));
    expect_frequencies({1, 0, 0.5, 1}, probabilities(1, {1, 3}));
    expect_frequencies({1, 0, 0.8, 1}, probabilities(1, {1, 3, 4}));
    expect_frequencies({1, 0, 0.95, 1}, probabilities(1, {0, 1, 3, 4}));
    expect_frequencies({1, 0, 0.9999, 1}, probabilities(1));
    // Both limits: the tokens of top-p are counted among those of top-k.
    expect_frequencies({1, 3, 0.5, 1}, probabilities(1, {1, 3}));
}

TEST(Sampler, IsAFunctionOfTheSeed) {
    const auto draw = [](std::uint64_t seed) {
        Sampler sampler({1, 0, 0.9, seed}, static_cast<Index>(logits.size()));
        std::vector<Token> tokens;
        for (int i = 0; i < 12; ++i) tokens.push_back(sampler(logits));
        return tokens;
    };
    EXPECT_EQ(draw(1), draw(1));
    EXPECT_NE(draw(1), draw(2));
    // Must never change: users pin texts by their seed.
    EXPECT_EQ(draw(1), (std::vector<Token>{3, 3, 0, 3, 3, 3, 4, 3, 1, 4, 3, 3}));
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
    constexpr float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()};
    for (const float value : bad) {
        std::vector<float> broken = logits;
        broken[4] = value;
        for (const double temperature : {0.0, 1.0}) {
            Sampler sampler({temperature, 0, 0.9, 1}, static_cast<Index>(logits.size()));
            EXPECT_THROW(sampler(broken), std::runtime_error);
        }
    }
}

TEST(Sampler, TakesExtremeLogits) {
    const std::vector<float> extreme{-3e38f, 3e38f, 0.0f};
    Sampler cold({1e-9, 0, 0.9, 1}, 3);
    Sampler hot({1e6, 0, 1, 1}, 3);
    EXPECT_EQ(cold(extreme), 1);
    EXPECT_EQ(hot(extreme), 1);
    const std::vector<float> one{1.0f};
    EXPECT_EQ(Sampler({1, 0, 0.5, 1}, 1)(one), 0);
}

}  // namespace
}  // namespace llama
