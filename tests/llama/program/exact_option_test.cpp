// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/model/products/kernels.hpp"
#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::json_of;
using test::largest_difference;
using test::nll_of;
using test::ProgramTest;

// Weights of Q8_0 are multiplied with activations that are rounded if --exact=false says so; token by token, in chunks,
// and on any number of threads.
TEST_F(ProgramTest, RoundsActivationsIfItNeedNotBeExact) {
    std::string ids;
    for (int i = 0; i < 60; ++i) ids += std::to_string(i * i % 47) + " ";
    const std::string model = FREQKV_FIXTURES_DIR "/models/gguf-q8_0.gguf";
    const Arguments command{"perplexity", "--model", model, "--token-file", own_.write("few.txt", ids)};
    const Arguments one_thread{"--threads", "1"};
    const Arguments rounding{"--exact=false"};
    const json exact = json_of(command + one_thread);
    const json rounded = json_of(command + one_thread + rounding);
    EXPECT_EQ(exact["exact"], true);
    EXPECT_EQ(rounded["exact"], false);
    // A small model with large random weights: losses around 8 of single tokens.
    EXPECT_LT(largest_difference(exact["nll"], rounded["nll"]), 0.5);
    if (!detail::byte_kernels().empty()) {
        EXPECT_NE(exact["nll"], rounded["nll"]);
    }
    EXPECT_LT(
        largest_difference(exact["nll"], nll_of(command + one_thread + rounding + Arguments{"--prefill-chunk", "1"})),
        0.5);
    for (const std::string& threads : test::thread_counts) {
        EXPECT_EQ(nll_of(command + rounding + Arguments{"--threads", threads}),
                  rounded["nll"].get<std::vector<double>>());
    }
}

}  // namespace
}  // namespace llama
