// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::largest_difference;
using test::nll_of;
using test::Outcome;
using test::ProgramTest;
using test::run;
using testing::ContainsRegex;
using testing::HasSubstr;

TEST_F(ProgramTest, RunsOnAGpuOrSaysThatThereIsNone) {
    const Arguments on_gpu{"--device", "cuda"};
    const Arguments options{"--capacity", "100", "--limit", "300"};
    const Outcome outcome = run(perplexity() + options + on_gpu + Arguments{"--json", "-"});
    if (outcome.status == 0) {
        const json result = json::parse(outcome.out);
        EXPECT_EQ(result["device"], "cuda");
        EXPECT_EQ(result["cache_type"], "f32");
        EXPECT_LE(largest_difference(result["nll"], nll_of(perplexity() + options)), 2e-3);
        EXPECT_THAT(run(generate() + on_gpu + Arguments{"--tokens", "700"}).err, HasSubstr("after a prompt of 1"));
        return;
    }
    const std::string reason = "(this program was built without CUDA|there is no CUDA device \\(.+\\))";
    expect_refusal(outcome, 1, {});
    EXPECT_THAT(outcome.err, ContainsRegex(reason));
    // Before anything is read.
    for (const Arguments& command : {Arguments{"generate"}, Arguments{"perplexity", "--text", "/nowhere"}}) {
        const Outcome other = run(command + on_gpu + Arguments{"--model", "/nowhere"});
        expect_refusal(other, 1, {});
        EXPECT_EQ(other.err, outcome.err);
    }
}

}  // namespace
}  // namespace llama
