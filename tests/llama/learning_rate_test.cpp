// SPDX-License-Identifier: MIT
#include "llama/training/learning_rate.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace llama {
namespace {

TEST(LearningRate, RisesInEqualStepsToItsPeak) {
    for (const bool cosine : {false, true}) {
        const LearningRate rate{.peak = 8, .warmup = 4, .steps = 100, .cosine = cosine};
        EXPECT_EQ(rate.at(1), 2);
        EXPECT_EQ(rate.at(2), 4);
        EXPECT_EQ(rate.at(3), 6);
        EXPECT_EQ(rate.at(4), 8);
        EXPECT_LE(rate.at(5), 8);
    }
}

TEST(LearningRate, StaysAtItsPeak) {
    const LearningRate rate{.peak = 3, .warmup = 4, .steps = 100};
    for (const Index step : {4, 5, 50, 100}) EXPECT_EQ(rate.at(step), 3) << step;
}

TEST(LearningRate, FallsAlongHalfACosineToATenth) {
    const LearningRate rate{.peak = 2, .warmup = 20, .steps = 100, .cosine = true};
    EXPECT_EQ(rate.at(20), 2);
    EXPECT_NEAR(rate.at(40), 2 * (0.1 + 0.9 * (0.5 + 0.25 * std::sqrt(2.0))), 1e-12) << "a quarter of the way";
    EXPECT_NEAR(rate.at(60), 1.1, 1e-12) << "half way";
    EXPECT_NEAR(rate.at(100), 0.2, 1e-12) << "the last step";
    for (Index step = 21; step <= 100; ++step) EXPECT_LT(rate.at(step), rate.at(step - 1)) << step;
    const LearningRate to_nothing{.peak = 2, .warmup = 20, .steps = 100, .cosine = true, .last = 0};
    EXPECT_NEAR(to_nothing.at(100), 0, 1e-12);
}

TEST(LearningRate, OfTheFirstStepWithoutWarmUpIsThePeak) {
    EXPECT_EQ((LearningRate{.peak = 5, .warmup = 0, .steps = 10}.at(1)), 5);
    EXPECT_EQ((LearningRate{.peak = 5, .warmup = 1, .steps = 10, .cosine = true}.at(1)), 5);
    EXPECT_LT((LearningRate{.peak = 5, .warmup = 0, .steps = 10, .cosine = true}.at(1)), 5);
}

TEST(LearningRate, MayRiseForLongerThanTheTraining) {
    for (const bool cosine : {false, true}) {
        const LearningRate rate{.peak = 100, .warmup = 100, .steps = 10, .cosine = cosine};
        EXPECT_EQ(rate.at(10), 10);
        EXPECT_EQ(rate.at(100), 100);
    }
    const LearningRate whole{.peak = 7, .warmup = 10, .steps = 10, .cosine = true};
    EXPECT_EQ(whole.at(10), 7) << "the warm-up ends with the training";
}

}  // namespace
}  // namespace llama
