// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/program/program_runs.hpp"

// The model that comes with the project does what the demonstration says of it: its texts go on behind its window, and
// its adapters help.
namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::output_of;

const std::string models = FREQKV_MODELS_DIR;
const Arguments base{"--model", models + "/books-3m"};
const Arguments low_pass_adapter{"--adapter", models + "/books-3m-low-pass"};
const Arguments window_adapter{"--adapter", models + "/books-3m-local-window"};

// Of the first 2048 tokens of a novel, which are eight times the window.
json measure(const Arguments& options) {
    const Arguments text{"--text", models + "/dracula-chapter-1.txt", "--limit", "2048", "--json", "-"};
    return json::parse(output_of(Arguments{"perplexity"} + base + text + options));
}

double perplexity(const Arguments& options) { return measure(options).at("perplexity"); }

// Of the targets from `first` on.
double perplexity_from(const json& result, std::size_t first) {
    const std::vector<double> losses = result.at("nll");
    double sum = 0;
    for (std::size_t i = first; i < losses.size(); ++i) sum += losses[i];
    return std::exp(sum / static_cast<double>(losses.size() - first));
}

TEST(DefaultModel, GoesOnBehindItsWindowWhereTheFullCacheBreaksDown) {
    const json full = measure({"--policy", "full"});
    const json bounded = measure(low_pass_adapter);
    EXPECT_GT(bounded.at("compressions"), 10);
    EXPECT_LT(bounded.at("cache_bytes").get<long>(), full.at("cache_bytes").get<long>() / 4);
    EXPECT_LT(1.5 * perplexity_from(bounded, 1024), perplexity_from(full, 1024));
    // It does not get worse along the text.
    EXPECT_LT(perplexity_from(bounded, 1024), 1.1 * perplexity_from(bounded, 0));
}

TEST(DefaultModel, IsBetterThroughACacheThatItWasTunedFor) {
    const double low_pass = perplexity(low_pass_adapter);
    EXPECT_LT(low_pass, perplexity({}));
    const Arguments window{"--policy", "local-window"};
    const double local = perplexity(window + window_adapter);
    EXPECT_LT(local, perplexity(window));
    EXPECT_LT(low_pass, 1.02 * local) << "as docs/results.md says of the test books";
}

TEST(DefaultModel, WritesTheSameTextEverywhere) {
    const std::string prompt = "The old house stood at the end of the lane, and";
    EXPECT_EQ(output_of(Arguments{"generate"} + base + Arguments{"--prompt", prompt, "--tokens", "16"}),
              prompt + " the door was opened.\n\n“I am going to see you,” said");
}

}  // namespace
}  // namespace llama
