// SPDX-License-Identifier: MIT
#include "llama/model/rope_scaling.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

namespace llama {
namespace {

using Type = RopeScaling::Type;

Config config_of(Type type) {
    Config config;
    config.head_dim = 64;
    config.rope_base = 500000;
    config.rope_scaling.type = type;
    config.rope_scaling.factor = 8;
    config.rope_scaling.original_context = 2048;
    return config;
}

// By what each frequency is divided.
std::vector<double> divisors(const Config& config) { return rope_options(config).frequency_factors; }

double wavelength(const Config& config, std::size_t pair) {
    return 2 * std::numbers::pi *
           std::pow(config.rope_base, 2 * static_cast<double>(pair) / static_cast<double>(config.head_dim));
}

TEST(RopeScaling, LeavesFrequenciesAloneWithoutScaling) {
    for (const Type type : {Type::none, Type::dynamic}) {
        EXPECT_EQ(divisors(config_of(type)), std::vector<double>(32, 1.0));
        EXPECT_EQ(score_scale(config_of(type)), 0.125);
    }
    Config listed = config_of(Type::none);
    listed.rope_scaling.divisors.assign(32, 3.0);
    EXPECT_EQ(divisors(listed), std::vector<double>(32, 3.0));
}

TEST(RopeScaling, LinearDividesAllFrequencies) {
    EXPECT_EQ(divisors(config_of(Type::linear)), std::vector<double>(32, 8.0));
    EXPECT_EQ(score_scale(config_of(Type::linear)), 0.125);
}

TEST(RopeScaling, Llama3DividesLongWavelengthsOnly) {
    const Config config = config_of(Type::llama3);
    const std::vector<double> divisor = divisors(config);
    int kept = 0, between = 0, divided = 0;
    for (std::size_t i = 0; i < divisor.size(); ++i) {
        const double length = wavelength(config, i);
        if (length < 2048 / 4.0) {
            EXPECT_EQ(divisor[i], 1) << i;
            ++kept;
        } else if (length > 2048) {
            EXPECT_EQ(divisor[i], 8) << i;
            ++divided;
        } else {
            const double smooth = (2048 / length - 1) / (4 - 1);
            EXPECT_NEAR(1 / divisor[i], (1 - smooth) / 8 + smooth, 1e-12) << i;
            ++between;
        }
    }
    EXPECT_GT(kept, 5);
    EXPECT_GT(between, 1);
    EXPECT_GT(divided, 5);
}

TEST(RopeScaling, YarnIsARampFromFastToSlow) {
    Config config = config_of(Type::yarn);
    for (const bool truncate : {true, false}) {
        config.rope_scaling.truncate = truncate;
        const std::vector<double> divisor = divisors(config);
        // Frequencies that turn more than 32 times within the window, and less than once.
        for (std::size_t i = 0; i < divisor.size(); ++i) {
            const double turns = 2048 / wavelength(config, i);
            if (turns > 50) {
                EXPECT_EQ(divisor[i], 1) << i;
            }
            if (turns < 0.6) {
                EXPECT_NEAR(divisor[i], 8, 1e-12) << i;
            }
            if (i > 0) {
                EXPECT_GE(divisor[i], divisor[i - 1]) << i;
            }
        }
    }
    const double magnitude = 0.1 * std::log(8.0) + 1;
    EXPECT_NEAR(score_scale(config), magnitude * magnitude / 8, 1e-12);
    config.rope_scaling.attention_factor = 2;
    EXPECT_EQ(score_scale(config), 0.5);
    EXPECT_EQ(rotated_query_factor(config), 1);
    EXPECT_EQ(score_scale(config, {.rotated = false}), 0.125) << "what does not turn is not multiplied";
    config.rotated_dims = 32;
    EXPECT_EQ(score_scale(config), 0.125);
    EXPECT_EQ(rotated_query_factor(config), 4) << "of both query and key";
}

TEST(RopeScaling, DynamicRaisesTheBaseBeyondTheWindow) {
    Config config = config_of(Type::dynamic);
    config.context = 100;
    for (const Index positions : {0, 1, 100}) EXPECT_EQ(rope_options(config, positions).base, 500000);
    EXPECT_NEAR(rope_options(config, 250).base, 500000 * std::pow(8 * 2.5 - 7, 64.0 / 62), 1e-4);
}

TEST(RopeScaling, LongropeHasListsForFewPositionsAndForMany) {
    Config config = config_of(Type::longrope);
    config.rotated_dims = 4;
    config.rope_scaling.factor = 1;
    config.rope_scaling.divisors = {1, 2};
    config.rope_scaling.long_divisors = {3, 4};
    for (const Index positions : {0, 2048}) {
        EXPECT_EQ(rope_options(config, positions).frequency_factors, (std::vector<double>{1, 2}));
    }
    EXPECT_EQ(rope_options(config, 2049).frequency_factors, (std::vector<double>{3, 4}));
    EXPECT_EQ(rope_options(config).rotated_dims, 4);
}

TEST(RopeScaling, KindsOfLayersTurnByThemselves) {
    Config config = config_of(Type::linear);
    EXPECT_EQ(rope_options(config, 0, {.rotated = false}).rotated_dims, 0);
    EXPECT_EQ(rope_options(config, 0, {.local = true}).frequency_factors, std::vector<double>(32, 8.0));
    config.local_rope_base = 10;
    const freqkv::RopeOptions local = rope_options(config, 0, {.local = true});
    EXPECT_EQ(local.base, 10);
    EXPECT_TRUE(local.frequency_factors.empty()) << "their frequencies are not scaled";
    EXPECT_EQ(rope_options(config).base, 500000);
}

}  // namespace
}  // namespace llama
