// SPDX-License-Identifier: MIT
#include "llama/program/flop_model.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace llama {
namespace {

// LLaMA-2-7B.
const Config llama_2{.dim = 4096,
                     .hidden = 11008,
                     .layers = 32,
                     .heads = 32,
                     .kv_heads = 32,
                     .head_dim = 128,
                     .vocabulary = 32000,
                     .context = 4096};

FlopCount count(PolicyName policy, double ratio, Index thousands) {
    return count_flops(llama_2, {policy, CacheType::f16, {4096, 4, 0}, ratio}, thousands * 1024);
}

struct Printed {
    const char* policy;
    double ratio;
    Index thousands;
    double tflops;
};

// Tables 4 and 6 of the paper.
TEST(FlopModel, ReproducesThePaper) {
    const Printed figures[] = {
        {"full", 0.5, 4, 62.93},           {"full", 0.5, 6, 101.00},         {"full", 0.5, 8, 143.46},
        {"low-pass", 0.1, 4, 62.93},       {"low-pass", 0.1, 6, 92.65},      {"low-pass", 0.1, 8, 125.17},
        {"low-pass", 0.1, 10, 155.77},     {"low-pass", 0.1, 12, 187.58},    {"low-pass", 0.25, 4, 62.93},
        {"low-pass", 0.25, 6, 93.31},      {"low-pass", 0.25, 8, 124.79},    {"low-pass", 0.25, 10, 157.35},
        {"low-pass", 0.25, 12, 187.73},    {"low-pass", 0.5, 4, 62.93},      {"low-pass", 0.5, 6, 94.42},
        {"low-pass", 0.5, 8, 125.90},      {"low-pass", 0.5, 10, 157.38},    {"low-pass", 0.5, 12, 188.85},
        {"low-pass", 0.5, 16, 251.81},     {"low-pass", 0.75, 4, 62.93},     {"low-pass", 0.75, 6, 94.45},
        {"low-pass", 0.75, 8, 125.94},     {"low-pass", 0.75, 10, 157.44},   {"low-pass", 0.75, 12, 188.94},
        {"local-window", 0.5, 4, 62.93},   {"local-window", 0.5, 8, 125.86}, {"local-window", 0.5, 12, 188.79},
        {"local-window", 0.5, 16, 251.72},
    };
    for (const Printed& figure : figures) {
        const double tflops = count(find_policy(figure.policy).value(), figure.ratio, figure.thousands).total() * 1e-12;
        EXPECT_LT(std::abs(tflops / figure.tflops - 1), 2e-4)
            << figure.policy << ' ' << figure.ratio << " at " << figure.thousands << "K: " << tflops << ", printed is "
            << figure.tflops;
    }
}

TEST(FlopModel, ReproducesTheCompressionsOfThePaper) {
    struct Row {
        Index thousands, compressions;
        double tflops;  // to three digits
    };
    for (const Row& row : {Row{4, 0, 0}, Row{8, 3, 0.039}, Row{12, 5, 0.064}, Row{16, 7, 0.090}}) {
        const FlopCount counted = count(PolicyName::low_pass, 0.5, row.thousands);
        EXPECT_EQ(counted.compressions, row.compressions) << row.thousands << "K";
        EXPECT_NEAR(counted.compression * 1e-12, row.tflops, 0.5e-3) << row.thousands << "K";
    }
    EXPECT_EQ(count(PolicyName::local_window, 0.5, 16).compression, 0) << "a selection computes nothing";
}

// By steps of the cache instead of a formula.
TEST(FlopModel, ScoresAreThoseOfTheChunks) {
    const Config config{
        .dim = 8, .hidden = 16, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 4, .vocabulary = 10, .context = 32};
    for (const Index recent : {0, 5}) {
        for (Index tokens = 1; tokens < 200; ++tokens) {
            const CacheSettings settings{PolicyName::low_pass, CacheType::f32, {20, 3, recent}, 0.6};
            Index size = 0, left = tokens, compressions = 0;
            double scores = 0;
            while (left > 0) {
                if (size == 20) {
                    size -= settings.span() - settings.kept();
                    ++compressions;
                }
                const Index chunk = std::min(left, 20 - size);
                size += chunk;
                left -= chunk;
                scores += static_cast<double>(chunk * size);
            }
            const FlopCount counted = count_flops(config, settings, tokens);
            EXPECT_EQ(counted.compressions, compressions) << tokens;
            EXPECT_DOUBLE_EQ(counted.attention, scores * 2 * 2 * 2 * 8) << tokens;
        }
    }
}

}  // namespace
}  // namespace llama
