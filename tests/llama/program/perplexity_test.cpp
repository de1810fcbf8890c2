// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizers/llama2c_tokenizer.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::has_terminal;
using test::json_of;
using test::largest_difference;
using test::mean;
using test::nll_of;
using test::Outcome;
using test::output_of;
using test::ProgramTest;
using test::read_text;
using test::run;
using test::Surroundings;
using test::thread_counts;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

TEST_F(ProgramTest, PerplexityWritesJson) {
    const std::string path = own_ / "result.json";
    const Arguments options{"--capacity", "100", "--sinks", "3", "--recent", "7", "--limit", "500"};
    const Outcome outcome = run(perplexity() + options + Arguments{"--json", path});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.err, "");
    EXPECT_EQ(own_.names(), Arguments{"result.json"});
    const json result = json::parse(read_text(path));
    const std::vector<double> nll = result["nll"];
    EXPECT_EQ(nll.size(), 499u);
    EXPECT_NEAR(result["perplexity"], std::exp(mean(nll)), 1e-9);
    EXPECT_EQ(result["tokens"], 500);
    EXPECT_EQ(result["compressions"], 9);  // 90 entries become 45: at token 101 and once every 45
    EXPECT_EQ(result["cache_bytes"], 5 * 2 * 4 * 8 * 100 * 4);
    EXPECT_GT(result["seconds"], 0.0);
    EXPECT_EQ(result["policy"], "low-pass");
    EXPECT_EQ(result["cache_type"], "f32");
    EXPECT_EQ(result["device"], "cpu");
    EXPECT_EQ(result["capacity"], 100);
    EXPECT_EQ(result["sinks"], 3);
    EXPECT_EQ(result["recent"], 7);
    EXPECT_EQ(result["ratio"], 0.5);
    EXPECT_THAT(outcome.out, HasSubstr("perplexity    " + std::to_string(result["perplexity"].get<double>())));
    EXPECT_THAT(outcome.out, HasSubstr("compressions  9 in each layer"));

    // On standard output there is the object alone.
    json other = json::parse(output_of(perplexity() + options + Arguments{"--json", "-"}));
    other["seconds"] = result["seconds"];
    EXPECT_EQ(other, result);
    // Whole or not at all also where a file stands; and what is no file is not replaced.
    own_.write("result.json", "old");
    EXPECT_EQ(run(perplexity() + options + Arguments{"--json", path}).status, 0);
    EXPECT_EQ(json::parse(read_text(path))["nll"], result["nll"]);
    EXPECT_EQ(run(perplexity() + options + Arguments{"--json", "/dev/null"}).status, 0);
    EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST_F(ProgramTest, PerplexityTakesTextsWithABeginOfTextToken) {
    std::string text = "The quick brown fox\njumps over \xc3\xa9t\xc3\xa9 ";
    for (int i = 0; i < 5; ++i) text += text;
    const std::string text_file = own_.write("text.txt", text);
    const Llama2cTokenizer tokenizer(file("m.tokenizer.bin"), 512);
    std::string ids = "1";
    for (const Token token : tokenizer.encode(text)) ids += " " + std::to_string(token);
    const std::string ids_file = own_.write("ids.txt", ids);
    const Arguments model{"perplexity", "--model", file("m.bin"), "--capacity", "64", "--threads", "1"};
    const json from_text = json_of(model + Arguments{"--text", text_file});
    const json from_ids = json_of(model + Arguments{"--token-file", ids_file});
    EXPECT_EQ(from_text["nll"], from_ids["nll"]);
    EXPECT_EQ(from_text["tokens"], std::count(ids.begin(), ids.end(), ' ') + 1);
    EXPECT_EQ(json_of(model + Arguments{"--text", text_file, "--limit", "20"})["nll"].size(), 19u);
}

TEST_F(ProgramTest, PerplexityLimitTakesTheFirstTokens) {
    const std::vector<double> all = nll_of(perplexity() + Arguments{"--capacity", "90"});
    ASSERT_EQ(all.size(), 999u);
    const std::vector<double> some = nll_of(perplexity() + Arguments{"--capacity", "90", "--limit", "301"});
    ASSERT_EQ(some.size(), 300u);
    EXPECT_LT(largest_difference(some, {all.begin(), all.begin() + 300}), 1e-3);
    EXPECT_EQ(nll_of(perplexity() + Arguments{"--capacity", "90", "--limit", "5000"}), all);
}

TEST_F(ProgramTest, PerplexityDoesNotDependOnThreadsOrChunks) {
    for (const char* const policy : {"low-pass", "local-window"}) {
        const Arguments options{"--capacity", "128", "--policy", policy};
        const std::vector<double> whole = nll_of(perplexity() + options);
        for (const std::string& threads : thread_counts) EXPECT_EQ(nll_of(perplexity(threads) + options), whole);
        for (const char* const chunk : {"1", "7", "333"}) {
            EXPECT_LT(largest_difference(nll_of(perplexity() + options + Arguments{"--prefill-chunk", chunk}), whole),
                      1e-3);
        }
    }
}

TEST_F(ProgramTest, PerplexityRunsUnderEveryPolicyAndType) {
    std::map<std::string, std::vector<double>> exact;
    for (const char* const type : {"f32", "f16", "bf16"}) {
        for (const char* const policy :
             {"low-pass", "local-window", "mean", "merge", "equal-weight", "h2o+low-pass", "full"}) {
            const bool full = policy == std::string("full");
            Arguments options = perplexity() + Arguments{"--limit", "300", "--policy", policy, "--cache-type", type};
            if (!full) options = options + Arguments{"--capacity", "64", "--recent", "0", "--ratio", "0.5"};
            const json result = json_of(options);
            const std::vector<double> nll = result["nll"];
            EXPECT_EQ(result["cache_bytes"], 5 * 2 * 4 * 8 * (full ? 300 : 64) * (type == std::string("f32") ? 4 : 2));
            EXPECT_EQ(result["compressions"], full ? 0 : 8);
            EXPECT_EQ(result.contains("capacity"), !full);
            if (type == std::string("f32")) exact[policy] = nll;
            // Which keys are most alike may hang on the last bit.
            if (policy != std::string("merge")) {
                EXPECT_LT(largest_difference(nll, exact[policy]), 0.3);
            }
        }
    }
    EXPECT_GT(largest_difference(exact["low-pass"], exact["full"]), 0.01);
    EXPECT_GT(largest_difference(exact["low-pass"], exact["local-window"]), 0.01);
}

TEST_F(ProgramTest, PerplexityPacksEntries) {
    const auto with = [&](const std::string& type, const Arguments& more = {}) {
        return json_of(perplexity() +
                       Arguments{"--limit", "400", "--capacity", "250", "--recent", "40", "--positions", "text",
                                 "--cache-type", type} +
                       more);
    };
    for (const char* const policy : {"low-pass", "local-window", "h2o"}) {
        const std::vector<double> exact = with("f32", {"--policy", policy})["nll"];
        for (const auto& [type, row_bytes, tolerance] :
             {std::tuple{"q8", 34, 0.05}, std::tuple{"q4", 18, 1.0}, std::tuple{"q2", 10, 3.0}}) {
            SCOPED_TRACE(std::string(policy) + " " + type);
            const json result = with(type, {"--policy", policy});
            EXPECT_GT(result["compressions"], 0);
            const double difference = largest_difference(result["nll"], exact);
            EXPECT_LT(difference, tolerance);
            EXPECT_GT(difference, 1e-7);
            // Of 8 elements each: 192 are packed; 4 sinks and 32 with a block of 64 are not.
            EXPECT_EQ(result["cache_bytes"], 5 * 4 * 2 * (192 * row_bytes + (4 + 32 + 64) * 8 * 2));
            EXPECT_LT(
                largest_difference(with(type, {"--policy", policy, "--prefill-chunk", "7"})["nll"], result["nll"]),
                type == std::string("q8") ? 1e-2 : 0.2);
        }
    }
    const json promised = json_of({"inspect", "--model", file("m.bin"), "--capacity", "250", "--cache-type", "q4"});
    EXPECT_EQ(promised["cache_bytes"][0]["q4"], with("q4")["cache_bytes"]);
}

TEST_F(ProgramTest, PerplexityTakesThePositionsOfTheText) {
    const auto nll = [&](const Arguments& more) {
        return nll_of(perplexity() + Arguments{"--limit", "500", "--capacity", "64"} + more);
    };
    const Arguments text{"--positions", "text"};
    // Without sinks, what a window keeps is as far away as it was.
    const Arguments window{"--policy", "local-window", "--sinks", "0"};
    EXPECT_LT(largest_difference(nll(window + text), nll(window)), 1e-3);
    EXPECT_GT(largest_difference(nll(text), nll({})), 1e-3);
    const Arguments weighted = text + Arguments{"--weighted"};
    EXPECT_GT(largest_difference(nll(weighted), nll(text)), 1e-3);
    const json result = json_of(perplexity() + Arguments{"--limit", "300", "--capacity", "64"} + weighted);
    EXPECT_EQ(result["positions"], "text");
    EXPECT_EQ(result["weighted"], true);
    EXPECT_EQ(result["bookkeeping_bytes"], 5 * 4 * 64 * (16 + 2 * 4)) << "token ranges, weights and their logarithms";
    EXPECT_EQ(json_of({"inspect", "--model", file("m.bin"), "--capacity", "64", "--positions", "text",
                       "--weighted"})["bookkeeping_bytes"],
              result["bookkeeping_bytes"]);
    EXPECT_FALSE(json_of(perplexity() + Arguments{"--limit", "10"}).contains("positions"));
}

TEST_F(ProgramTest, PerplexityOfWindows) {
    // 1000 tokens, windows of 300: starts below 700 are 0, 150, 300, 450, 600; the last is left out.
    const Arguments cache{"--capacity", "90", "--recent", "10"};
    const Arguments windows = cache + Arguments{"--window", "300", "--stride", "150"};
    const json result = json_of(perplexity() + windows);
    const std::vector<double> all_targets = result["nll"];
    const json last = json_of(perplexity() + windows + Arguments{"--score-last", "150"});
    const std::vector<double> last_targets = last["nll"];
    const std::vector<double> last_target = nll_of(perplexity() + windows + Arguments{"--score-last", "1"});
    ASSERT_EQ(all_targets.size(), 4u);
    ASSERT_EQ(last_targets.size(), 4u);
    ASSERT_EQ(last_target.size(), 4u);
    EXPECT_EQ(result["score_last"], 299);
    EXPECT_EQ(last["score_last"], 150);
    EXPECT_EQ(result["tokens"], 1000);
    EXPECT_EQ(result["window"], 300);
    EXPECT_EQ(result["stride"], 150);
    EXPECT_NEAR(result["perplexity"], std::exp(mean(all_targets)), 1e-9);
    std::ifstream ids(file("ids.txt"));
    std::vector<std::string> words{std::istream_iterator<std::string>(ids), {}};
    for (std::size_t w = 0; w < 4; ++w) {
        std::string part;
        for (std::size_t i = 0; i < 300; ++i) part += words[w * 150 + i] + " ";
        const std::vector<double> nll = nll_of(Arguments{"perplexity", "--model", file("m.bin"), "--threads", "1",
                                                         "--token-file", own_.write("part.txt", part)} +
                                               cache);
        ASSERT_EQ(nll.size(), 299u);
        EXPECT_NEAR(all_targets[w], mean(nll), 1e-9);
        EXPECT_NEAR(last_targets[w], mean(nll, 150), 1e-9);
        EXPECT_NEAR(last_target[w], nll.back(), 1e-9);
    }
    double squares = 0;
    for (const double loss : all_targets) squares += std::pow(loss - mean(all_targets), 2);
    EXPECT_NEAR(result["standard_error"], std::exp(mean(all_targets)) * std::sqrt(squares / 3 / 4), 1e-9);
    EXPECT_THAT(output_of(perplexity() + windows + Arguments{"--score-last", "150"}),
                MatchesRegex("perplexity +[0-9.]+, standard error [0-9.]+\n(.|\n)*in 4 windows of 300, 150 apart, "
                             "the last 150 targets of each\n(.|\n)*"));
    // 1000 - 100 = 900: starts 0, 450, without 450. A single window has no standard error.
    const Arguments far{"--window", "100", "--stride", "450"};
    EXPECT_EQ(nll_of(perplexity() + far), nll_of(perplexity() + far + Arguments{"--score-last", "99"}));
    EXPECT_FALSE(json_of(perplexity() + far).contains("standard_error"));
    EXPECT_EQ(nll_of(perplexity() + far).size(), 1u);
    EXPECT_THAT(output_of(perplexity() + far), HasSubstr("in 1 windows of 100, 450 apart"));
    // The start at 900 is not below 1000 - 100, so 0 and 899 are the starts, and 0 remains.
    EXPECT_EQ(nll_of(perplexity() + Arguments{"--window", "100", "--stride", "899"}).size(), 1u);
    expect_refusal(run(perplexity() + Arguments{"--window", "100", "--stride", "900"}), 1, {"--window 100", "1000"});
    expect_refusal(run(perplexity() + Arguments{"--window", "1000", "--stride", "10"}), 1, {"--window 1000", "1000"});
}

TEST_F(ProgramTest, PerplexityOfWindowsOfAnySizeHasTheSameTargets) {
    // With a full cache and a window that sees the whole beginning, the targets' losses are those of one sequence.
    const Arguments full{"--policy", "full"};
    const std::vector<double> text = nll_of(perplexity() + full);
    constexpr int largest = 400;
    std::map<int, std::vector<double>> losses;
    for (const int window : {20, 100, largest}) {
        const json result =
            json_of(perplexity() + full +
                    Arguments{"--window", std::to_string(window), "--skip", std::to_string(largest - window),
                              "--stride", "90", "--score-last", "10"});
        losses[window] = result["nll"].get<std::vector<double>>();
        EXPECT_EQ(result["skip"], largest - window);
        EXPECT_EQ(result["tokens"], 1000 - (largest - window));
        EXPECT_EQ(losses[window].size(), 6u);  // ends at 400, 490, ..., 940, without the last
    }
    EXPECT_NEAR(losses[largest][0], mean({text.begin(), text.begin() + 399}, 10), 1e-4);
    // The other windows are those of a text that begins where they do.
    std::ifstream ids(file("ids.txt"));
    std::vector<std::string> words{std::istream_iterator<std::string>(ids), {}};
    for (const int window : {20, 100}) {
        std::string part;
        for (int i = largest + 90 - window; i < largest + 90; ++i) part += words[static_cast<std::size_t>(i)] + " ";
        const std::vector<double> nll = nll_of(Arguments{"perplexity", "--model", file("m.bin"), "--threads", "1",
                                                         "--token-file", own_.write("part.txt", part)} +
                                               full);
        EXPECT_NEAR(losses[window][1], mean(nll, 10), 1e-9);
    }
    // --limit counts from the beginning of the text.
    EXPECT_EQ(nll_of(perplexity() + Arguments{"--limit", "50", "--skip", "30"}).size(), 19u);
    expect_refusal(run(perplexity() + Arguments{"--skip", "999"}), 1,
                   {"ids.txt", "at least 2", "there are 1", "--skip"});
    expect_refusal(run(perplexity() + Arguments{"--skip", "5000"}), 1, {"there are 0"});
}

TEST_F(ProgramTest, PerplexityShowsItsProgressOnATerminal) {
    if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
    Surroundings with;
    with.terminal = true;
    const Outcome outcome = run(perplexity() + Arguments{"--prefill-chunk", "10"}, with);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, ContainsRegex("\\[[#.]+\\] +[0-9]+ %, [0-9:]+ left, perplexity [0-9.]+"));
    EXPECT_THAT(outcome.err, testing::EndsWith("\r\033[2K"));
    EXPECT_THAT(outcome.out, StartsWith("perplexity"));
}

TEST_F(ProgramTest, PerplexityKeepsWhatItHasWhenItIsInterrupted) {
    if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
    std::string ids;
    for (int i = 0; i < 2000000; ++i) ids += "7 ";
    Surroundings with;
    with.terminal = true;  // the bar says that it is at work
    bool sent = false;
    with.on_text = [&](pid_t child, const Outcome&) {
        if (!sent) sent = ::kill(child, SIGINT) == 0;
    };
    const std::string path = own_.write("long.txt", ids);
    const Outcome outcome = run({"perplexity", "--model", file("m.bin"), "--token-file", path, "--prefill-chunk", "20",
                                 "--json", own_ / "result.json"},
                                with);
    EXPECT_TRUE(sent);
    EXPECT_EQ(outcome.status, 128 + SIGINT);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
    EXPECT_EQ(own_.names(), (Arguments{"long.txt", "result.json.partial"}));
    const json saved = json::parse(read_text(own_ / "result.json.partial"));
    EXPECT_GE(saved["state"]["nll"].get<std::string>().size(), 16u);
}

TEST_F(ProgramTest, PerplexityGoesOnAfterAKill) {
    if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
    const Arguments windows{"--window", "60", "--stride", "20", "--capacity", "40"};
    const Arguments sequence{"--capacity", "40"};
    for (const Arguments& options : {windows, sequence}) {
        const Arguments command = perplexity() + options + Arguments{"--prefill-chunk", "1", "--json"};
        ASSERT_EQ(run(command + Arguments{own_ / "whole.json"}).status, 0);

        const std::string partial = own_ / "result.json.partial";
        Surroundings with;
        with.terminal = true;  // the bar says that it is at work
        with.on_text = [&](pid_t child, const Outcome&) {
            for (int i = 0; i < 10000 && !std::filesystem::exists(partial); ++i) ::usleep(1000);
            ::kill(child, SIGKILL);
        };
        EXPECT_EQ(run(command + Arguments{own_ / "result.json"}, with).status, 128 + SIGKILL);
        ASSERT_TRUE(std::filesystem::exists(partial)) << "nothing was saved";
        EXPECT_FALSE(std::filesystem::exists(own_ / "result.json"));
        expect_refusal(run(command + Arguments{own_ / "result.json", "--resume", "--sinks", "5"}), 2,
                       {"result.json.partial", "sinks 4, not 5"});
        expect_refusal(run(command + Arguments{own_ / "result.json", "--resume", "--limit", "900"}), 2,
                       {"result.json.partial", "tokens 1000, not 900"});

        const std::size_t known = json::parse(read_text(partial))["state"]["nll"].get<std::string>().size() / 16;
        EXPECT_GT(known, 0u);
        ASSERT_EQ(run(command + Arguments{own_ / "result.json", "--resume"}).status, 0);
        EXPECT_FALSE(std::filesystem::exists(partial));
        const json whole = json::parse(read_text(own_ / "whole.json"));
        json resumed = json::parse(read_text(own_ / "result.json"));
        EXPECT_GT(whole["nll"].size(), known);
        resumed["seconds"] = whole["seconds"];
        EXPECT_EQ(resumed, whole);
        std::filesystem::remove(own_ / "result.json");
    }
}

TEST_F(ProgramTest, PerplexityResumesFromNothingAndRefusesDamage) {
    const Arguments command = perplexity() + Arguments{"--limit", "50", "--json", own_ / "result.json", "--resume"};
    EXPECT_EQ(run(command).status, 0) << "nothing to resume from is a beginning";
    for (const char* const content : {"", "{", "[]", "{}", "{\"made_with\": 3}"}) {
        own_.write("result.json.partial", content);
        expect_refusal(run(command), 1, {"result.json.partial"});
    }
}

// Of more windows than can be measured meanwhile.
class InterruptedPerplexity : public ProgramTest {
protected:
    void SetUp() override {
        if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
        own_.write("m.bin", read_text(file("m.bin")));
        own_.write("ids.u16", std::string(2 * tokens, '\0'));
        Surroundings with;
        with.terminal = true;  // the bar says that it is at work
        with.on_text = [sent = false](pid_t child, const Outcome&) mutable {
            if (!sent) sent = ::kill(child, SIGTERM) == 0;
        };
        ASSERT_EQ(run(command_, with).status, 128 + SIGTERM);
        ASSERT_TRUE(std::filesystem::exists(partial_));
    }

    static constexpr std::size_t tokens = 4'500'000;
    const std::string partial_ = own_ / "result.json.partial";
    const Arguments command_{"perplexity",
                             "--model",
                             own_ / "m.bin",
                             "--token-file",
                             own_ / "ids.u16",
                             "--token-format",
                             "u16",
                             "--window",
                             "2",
                             "--stride",
                             "1",
                             "--threads",
                             "1",
                             "--json",
                             own_ / "result.json"};
};

TEST_F(InterruptedPerplexity, IsResumedFromMoreThanIsReadOfOtherJson) {
    json partial = json::parse(read_text(partial_));
    std::string losses;
    while (losses.size() < 16 * (tokens - 3)) losses += "3ff0000000000000";  // 1 each
    partial["state"]["nll"] = losses;
    own_.write("result.json.partial", partial.dump());
    ASSERT_GT(std::filesystem::file_size(partial_), std::size_t{64} << 20);
    EXPECT_EQ(run(command_ + Arguments{"--resume"}).status, 0);
    const std::string result = read_text(own_ / "result.json");
    EXPECT_NEAR(json::parse(result)["perplexity"], std::exp(1), 1e-12);
    for (const char* const wrong : {"3ff000000000000", "3ff000000000000x", "7ff0000000000000"}) {
        partial["state"]["nll"] = wrong;
        own_.write("result.json.partial", partial.dump());
        expect_refusal(run(command_ + Arguments{"--resume"}), 1, {"result.json.partial: no partial result: "});
    }
}

TEST_F(InterruptedPerplexity, IsResumedWithTheSameWeightsOnly) {
    std::string model = read_text(own_ / "m.bin");
    model[model.size() / 2] = static_cast<char>(model[model.size() / 2] ^ 1);
    own_.write("m.bin", model);
    expect_refusal(run(command_ + Arguments{"--resume"}), 2, {"result.json.partial was made with weights "});
}

TEST_F(ProgramTest, PerplexityReportsPositions) {
    const json result = json_of(perplexity() + Arguments{"--capacity", "100"});
    const std::vector<double> nll = result["nll"];
    std::size_t target = 0;
    Index first = 1;
    for (const json& bucket : result["buckets"]) {
        EXPECT_EQ(bucket["first"], first);
        first = bucket["last"].get<Index>() + 1;
        double sum = 0;
        const auto targets = bucket["targets"].get<std::size_t>();
        for (std::size_t i = 0; i < targets; ++i) sum += nll[target++];
        EXPECT_NEAR(bucket["perplexity"], std::exp(sum / static_cast<double>(targets)), 1e-9);
    }
    EXPECT_EQ(result["buckets"].size(), 5u);  // to 63, 127, 255, 511, 1023
    EXPECT_EQ(target, nll.size());
    const json windows = json_of(perplexity() + Arguments{"--window", "100", "--stride", "100"});
    ASSERT_EQ(windows["buckets"].size(), 2u);
    EXPECT_EQ(windows["buckets"][0]["targets"], 63 * 8);
    EXPECT_EQ(windows["buckets"][1]["targets"], 36 * 8);
}

TEST_F(ProgramTest, PerplexityReadsSixteenBitIds) {
    std::ifstream ids(file("ids.txt"));
    std::string bytes;
    for (int id = 0; ids >> id;) {
        bytes.push_back(static_cast<char>(id & 0xff));
        bytes.push_back(static_cast<char>(id >> 8));
    }
    const auto read = [&](const std::string& name, const std::string& content) {
        return Arguments{
            "perplexity", "--model", file("m.bin"), "--token-file", own_.write(name, content), "--token-format", "u16",
            "--threads",  "1"};
    };
    EXPECT_EQ(nll_of(read("ids.u16", bytes)), nll_of(perplexity()));
    EXPECT_EQ(nll_of(read("ids.u16", bytes) + Arguments{"--limit", "20"}).size(), 19u);
    expect_refusal(run(read("odd.u16", bytes + "x")), 1, {"odd.u16", "2001 bytes"});
    expect_refusal(run(read("large.u16", bytes + std::string("\x00\x02", 2))), 1, {"large.u16", "token 1000 is 512"});
    expect_refusal(run(read("empty.u16", "")), 1, {"empty.u16", "empty"});
}

}  // namespace
}  // namespace llama
