// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::expect_refusal;
using test::output_of;
using test::ProgramTest;
using test::run;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;

TEST_F(ProgramTest, VersionAndHelp) {
    EXPECT_THAT(output_of({"--version"}), MatchesRegex("freqkv-llama [0-9]+\\.[0-9]+\\.[0-9]+\n"));
    EXPECT_THAT(output_of({"--help"}), HasSubstr("perplexity"));
    EXPECT_THAT(output_of({"merge", "--help"}), HasSubstr("--adapter"));
    EXPECT_THAT(output_of({"tokenize", "--help"}), HasSubstr("--out"));
    for (const char* const command : {"generate", "perplexity", "inspect", "flops"}) {
        EXPECT_THAT(output_of({command, "--help"}), HasSubstr("--prefill-chunk"));
    }
    for (const char* const command : {"generate", "perplexity"}) {
        EXPECT_THAT(output_of({command, "--help"}), ContainsRegex("--device.*cpu,cuda.*cpu"));
        EXPECT_THAT(output_of({command, "--help"}), HasSubstr("on a GPU that of the"));
    }
    for (const char* const command : {"inspect", "flops"}) {
        EXPECT_THAT(output_of({command, "--help"}), testing::Not(HasSubstr("--device")));
        EXPECT_THAT(output_of({command, "--help"}), HasSubstr("[f32]"));
    }
}

TEST_F(ProgramTest, RefusesAWrongCommandLine) {
    const struct {
        Arguments arguments;
        std::vector<std::string> words;
    } cases[] = {
        {{},
         {"perplexity, evaluate, calibrate, spectrum, inspect, policies, flops, tokenize, train, finetune, merge or "
          "fetch"}},
        {{"translate"}, {"translate"}},
        {{"generate"}, {"--model"}},
        {generate() + Arguments{"--verbose"}, {"--verbose"}},
        {generate() + Arguments{"more"}, {"more"}},
        {generate() + Arguments{"--policy", "fifo"}, {"--policy", "fifo", "low-pass"}},
        {generate() + Arguments{"--policy", "h2o:decoy=1"}, {"--policy", "h2o", "\"decoy\"", "decay (0.001 to 1)"}},
        {generate() + Arguments{"--policy", "h2o:decay=1.5"}, {"--policy", "\"1.5\"", "decay (0.001 to 1)"}},
        {generate() + Arguments{"--policy", "h2o:decay"}, {"--policy", "decay (0.001 to 1)"}},
        {generate() + Arguments{"--policy", "h2o:"}, {"--policy", "no parameter \"\""}},
        {generate() + Arguments{"--policy", "low-pass:ratio=0.5"}, {"--policy", "low-pass has no parameter"}},
        {generate() + Arguments{"--policy", "snapkv:window=1.5"}, {"--policy", "\"1.5\"", "window (whole, 1 to 32)"}},
        {generate() + Arguments{"--policy", "snapkv:window=8,pool=4"}, {"--policy", "\"4\"", "pool (odd, 1 to 63)"}},
        {generate() + Arguments{"--policy", "tiers", "--ratio", "0.5"}, {"--policy tiers", "--ratio"}},
        {generate() + Arguments{"--policy", "low-pass-unscaled"}, {"--policy", "for training only"}},
        {generate() + Arguments{"--positions", "words"}, {"--positions", "words", "index", "text"}},
        {generate() + Arguments{"--weighted"}, {"--weighted needs --positions text"}},
        {generate() + Arguments{"--positions", "text", "--tokens", "600"},
         {"--positions text", "of 6", "trained with up to 512"}},
        {generate() + Arguments{"--cache-type", "f8"}, {"--cache-type", "f8", "bf16"}},
        {generate() + Arguments{"--device", "gpu"}, {"--device", "gpu", "cuda"}},
        {{"inspect", "--model", file("m.bin"), "--device", "cuda"}, {"--device"}},
        {generate() + Arguments{"--ratio", "0"}, {"--ratio", "0"}},
        {generate() + Arguments{"--ratio", "1"}, {"--ratio", "1"}},
        {generate() + Arguments{"--ratio", "-0.5"}, {"--ratio", "-0.5"}},
        {generate() + Arguments{"--ratio", "nan"}, {"--ratio", "nan"}},
        {generate() + Arguments{"--ratio", "half"}, {"--ratio", "half"}},
        {generate() + Arguments{"--ratio", "0.001", "--capacity", "100"}, {"--ratio", "96"}},
        {generate() + Arguments{"--capacity", "5"}, {"--capacity 5", "--sinks 4", "--recent 0"}},
        {generate() + Arguments{"--capacity", "25", "--sinks", "8", "--recent", "16"},
         {"--capacity 25", "--recent 16"}},
        {generate() + Arguments{"--recent", "600"}, {"512", "--recent 600"}},
        {generate() + Arguments{"--capacity", "0"}, {"--capacity", "\"0\""}},
        {generate() + Arguments{"--capacity", "-512"}, {"--capacity", "\"-512\""}},
        {generate() + Arguments{"--capacity", "512.5"}, {"--capacity", "\"512.5\""}},
        {generate() + Arguments{"--capacity", "99999999999999999999"}, {"--capacity", "\"99999999999999999999\""}},
        {generate() + Arguments{"--sinks", "-1"}, {"--sinks"}},
        {generate() + Arguments{"--recent", "x"}, {"--recent", "\"x\""}},
        {{"generate", "--model", file("m.bin"), "--threads", "0"}, {"--threads"}},
        {generate() + Arguments{"--prefill-chunk", "0"}, {"--prefill-chunk"}},
        {generate() + Arguments{"--tokens", "-1"}, {"--tokens"}},
        {generate() + Arguments{"--tokens", "many"}, {"--tokens", "\"many\""}},
        {generate() + Arguments{"--temperature", "-1"}, {"--temperature"}},
        {generate() + Arguments{"--temperature", "inf"}, {"--temperature"}},
        {generate() + Arguments{"--temperature", "nan"}, {"--temperature"}},
        {generate() + Arguments{"--top-p", "1.5"}, {"--top-p"}},
        {generate() + Arguments{"--top-k", "-1"}, {"--top-k"}},
        {generate() + Arguments{"--seed", "-1"}, {"--seed"}},
        {generate() + Arguments{"--policy", "full", "--capacity", "100"}, {"--policy full", "--capacity"}},
        {generate() + Arguments{"--policy", "full", "--sinks", "4"}, {"--policy full", "--sinks"}},
        {generate() + Arguments{"--policy", "full", "--recent", "0"}, {"--policy full", "--recent"}},
        {generate() + Arguments{"--policy", "full", "--ratio", "0.5"}, {"--policy full", "--ratio"}},
        {{"perplexity", "--model", file("m.bin")}, {"--token-file", "--text"}},
        {perplexity() + Arguments{"--text", file("ids.txt")}, {"--token-file", "--text"}},
        {perplexity() + Arguments{"--window", "10"}, {"--window", "--stride"}},
        {perplexity() + Arguments{"--stride", "10"}, {"--window", "--stride"}},
        {perplexity() + Arguments{"--score-last", "5"}, {"--score-last", "--window"}},
        {perplexity() + Arguments{"--window", "10", "--stride", "5", "--score-last"}, {"--score-last"}},
        {perplexity() + Arguments{"--window", "10", "--stride", "5", "--score-last", "0"}, {"--score-last"}},
        {perplexity() + Arguments{"--window", "10", "--stride", "5", "--score-last", "10"},
         {"--score-last 10", "9 targets"}},
        {perplexity() + Arguments{"--skip", "-1"}, {"--skip"}},
        {perplexity() + Arguments{"--window", "1", "--stride", "1"}, {"--window"}},
        {perplexity() + Arguments{"--window", "10", "--stride", "0"}, {"--stride"}},
        {perplexity() + Arguments{"--limit", "0"}, {"--limit"}},
    };
    for (const auto& wrong : cases) {
        SCOPED_TRACE(testing::PrintToString(wrong.arguments));
        expect_refusal(run(wrong.arguments), 2, wrong.words);
    }
}

#if !defined(_OPENMP)
TEST_F(ProgramTest, RefusesThreadsItDoesNotHave) { expect_refusal(run(generate("2")), 2, {"--threads", "OpenMP"}); }
#endif

}  // namespace
}  // namespace llama
