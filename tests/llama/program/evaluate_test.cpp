// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/program/program_fixture.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::has_terminal;
using test::json_of;
using test::Outcome;
using test::read_text;
using test::run;
using test::Surroundings;

class EvaluateProgram : public test::ProgramTest {
protected:
    // Of a model that knows nothing, so that only what is counted matters.
    static Arguments evaluate(const Arguments& tasks, const std::string& length = "400",
                              const std::string& threads = "1") {
        return Arguments{"evaluate"} + tasks +
               Arguments{"--model", file("m.bin"), "--threads", threads, "--length", length} +
               Arguments{"--policy", "local-window", "--capacity", "64"};
    }

    std::string book() const {
        std::string text;
        for (int line = 0; line < 200; ++line) {
            text += "It was day " + std::to_string(line) + ", and nothing came of it. We went on.\n";
        }
        return own_.write("book.txt", text);
    }
};

TEST_F(EvaluateProgram, WritesRowsForEverySampleAndTheirMeans) {
    const Arguments command =
        evaluate({"passkey", "fwe"}, "800") + Arguments{"--samples", "3", "--out", own_ / "results"};
    const json result = json_of(command);
    EXPECT_EQ(result["policy"], "local-window");
    EXPECT_GT(result["cache_bytes"], 0);
    ASSERT_EQ(result["results"].size(), 2u);
    EXPECT_EQ(result["results"][0]["task"], "passkey");
    EXPECT_EQ(result["results"][0]["rows"], 3);
    EXPECT_EQ(result["results"][1]["length"], 800);
    EXPECT_EQ(json::parse(read_text(own_ / "results/metrics.json")).size(), 2u);
    EXPECT_THAT(read_text(own_ / "results/config.yaml"), testing::HasSubstr("capacity: 64\n"));
    EXPECT_FALSE(std::filesystem::exists(own_ / "results/freqkv-evaluation.partial"));
}

TEST_F(EvaluateProgram, DependsNeitherOnJobsNorOnThreads) {
    const Arguments tasks{"niah_single_1", "passage"};
    const Arguments more{"--samples", "2", "--text", book(), "--distances", "256", "300"};
    const std::string one = own_ / "one", many = own_ / "many";
    json_of(evaluate(tasks, "600") + more + Arguments{"--out", one});
    json_of(evaluate(tasks, "600", "2") + more + Arguments{"--jobs", "3", "--out", many});
    EXPECT_EQ(read_text(one + "/predictions.csv"), read_text(many + "/predictions.csv"));
}

TEST_F(EvaluateProgram, AFullCacheIsNoDifferentFromItself) {
    const json result = json_of(Arguments{"evaluate", "divergence", "--model", file("m.bin"), "--length", "300",
                                          "--policy", "full", "--text", book()});
    ASSERT_EQ(result["results"].size(), 1u);
    EXPECT_EQ(result["results"][0]["rows"], 2);  // stretches of 256
    EXPECT_NEAR(result["results"][0]["divergence"], 0, 1e-12);
    EXPECT_EQ(result["results"][0]["agreement"], 1);
    const json bounded = json_of(evaluate({"divergence"}) + Arguments{"--text", book()});
    EXPECT_GT(bounded["results"][0]["divergence"], 0);
}

TEST_F(EvaluateProgram, NeedlesHaveACellForEachDepth) {
    const json result = json_of(evaluate({"needle"}) + Arguments{"--text", book(), "--depths", "3", "--samples", "2"});
    ASSERT_EQ(result["results"].size(), 3u);
    for (std::size_t d = 0; d < 3; ++d) {
        EXPECT_EQ(result["results"][d]["place"], static_cast<double>(d) / 2);
        EXPECT_EQ(result["results"][d]["rows"], 2);
    }
}

TEST_F(EvaluateProgram, KilledAndResumedIsTheSame) {
    if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
    const Arguments command = evaluate({"passkey"}) + Arguments{"--samples", "200"};
    const std::string out = own_ / "killed";
    Surroundings with;
    with.terminal = true;  // the line that says how far it is
    with.on_text = [sent = false](pid_t child, const Outcome&) mutable {
        if (!sent) sent = ::kill(child, SIGTERM) == 0;
    };
    ASSERT_EQ(run(command + Arguments{"--out", out}, with).status, 128 + SIGTERM);
    ASSERT_TRUE(std::filesystem::exists(out + "/freqkv-evaluation.partial"));
    EXPECT_FALSE(std::filesystem::exists(out + "/predictions.csv"));
    expect_refusal(run(command + Arguments{"--out", out, "--resume", "--seed", "5"}), 2, {"seed 1, not 5"});
    const json resumed = json_of(command + Arguments{"--out", out, "--resume"});
    const json whole = json_of(command + Arguments{"--out", own_ / "whole"});
    EXPECT_EQ(resumed, whole);
    EXPECT_TRUE(read_text(out + "/predictions.csv") == read_text(own_ / "whole/predictions.csv"));
}

TEST_F(EvaluateProgram, ReadsSamplesOfOthers) {
    const std::string path =
        own_.write("vt.jsonl",
                   "{\"context\":\"VAR A = 5.\",\"question\":\" Which?\",\"answer_prefix\":\" It is\","
                   "\"answer\":[\"A\"],\"task\":\"vt\",\"max_new_tokens\":3}\n");
    const json result = json_of(evaluate({path}));
    ASSERT_EQ(result["results"].size(), 1u);
    EXPECT_EQ(result["results"][0]["task"], "vt");
    EXPECT_EQ(result["results"][0]["rows"], 1);
}

TEST_F(EvaluateProgram, RefusesWhatCannotBeDone) {
    expect_refusal(
        run(evaluate({"passkeys"})), 2,
        {"passkeys: there is no such task and no such file; tasks are passkey, needle, niah_single_1, niah_multikey_2, "
         "niah_multikey_3, vt, cwe, fwe, passage, mqar, forgetting-mqar, divergence"});
    expect_refusal(run(evaluate({"needle"})), 2, {"give --text"});
    expect_refusal(run(evaluate({"passkey"}, "20")), 2, {"--length 20, of which 1 are around a message: passkey"});
    expect_refusal(run(evaluate({"mqar"})), 2, {"mqar --length 400 needs 25 tokens that are words"});
    expect_refusal(run(evaluate({"passage"}) + Arguments{"--text", book(), "--distances", "100"}), 2,
                   {"--distances 100"});
}

}  // namespace
}  // namespace llama
