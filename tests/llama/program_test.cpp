// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/model/random.hpp"
#include "llama/program_runs.hpp"
#include "llama/run_program.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizers/llama2c_tokenizer.hpp"

// freqkv-llama as a user runs it: its arguments, output, messages and exit status.
namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::Outcome;
using test::output_of;
using test::read_text;
using test::run;
using test::run_program;
using test::Surroundings;
using test::TemporaryDirectory;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
#else
constexpr bool sanitized = false;
#endif

// To be compared with one thread.
#if defined(_OPENMP)
const Arguments thread_counts{"2", "3"};
#else
const Arguments thread_counts{};  // the program has no others
#endif

json json_of(const Arguments& arguments) {
    const std::string text = output_of(arguments + Arguments{"--json", "-"});
    return json::accept(text) ? json::parse(text) : json{};
}

std::vector<double> nll_of(const Arguments& arguments) { return json_of(arguments).at("nll"); }

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = a.size() == b.size() ? 0 : INFINITY;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
    return largest;
}

double mean(const std::vector<double>& values, std::size_t last = SIZE_MAX) {
    const auto count = static_cast<std::ptrdiff_t>(std::min(last, values.size()));
    return std::accumulate(values.end() - count, values.end(), 0.0) / static_cast<double>(count);
}

// A model of random weights, its tokenizer, and token ids.
class ProgramTest : public testing::Test {
protected:
    static void SetUpTestSuite() {
        files_ = std::make_unique<TemporaryDirectory>();
        const Outcome made =
            run_program({FREQKV_MAKE_RANDOM_CHECKPOINT, *files_ / "m.bin", *files_ / "m.tokenizer.bin"});
        ASSERT_EQ(made.status, 0) << made.err;
        Random random(3);
        std::string ids;
        for (int i = 0; i < 1000; ++i) ids += std::to_string(random.next() % 512) + (i % 20 == 19 ? "\n" : " ");
        files_->write("ids.txt", ids);
    }
    static void TearDownTestSuite() { files_.reset(); }

    static std::string file(const std::string& name) { return *files_ / name; }
    // One thread, unless a test is about threads: other work on the machine then costs little time.
    static Arguments generate(const std::string& threads = "1") {
        return {"generate", "--model", file("m.bin"), "--ignore-eos", "--threads", threads};
    }
    static Arguments perplexity(const std::string& threads = "1") {
        return {"perplexity", "--model", file("m.bin"), "--token-file", file("ids.txt"), "--threads", threads};
    }

    static std::unique_ptr<TemporaryDirectory> files_;
    TemporaryDirectory own_;
};

std::unique_ptr<TemporaryDirectory> ProgramTest::files_;

// --- generate

TEST_F(ProgramTest, GenerateWritesTextToOutputAndStatisticsToError) {
    const Outcome outcome = run(generate() + Arguments{"--tokens", "700"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_GE(outcome.out.size(), 400u);
    EXPECT_THAT(outcome.err, MatchesRegex("700 tokens in [0-9.]+ s \\([0-9]+ tokens/s\\) after a prompt of 1 "
                                          "\\([0-9.]+ s\\); cache 446/512, 1 compressions\n"));
    EXPECT_EQ(output_of(generate() + Arguments{"--tokens", "700"}), outcome.out);
    const std::string half = output_of(generate() + Arguments{"--tokens", "350"});
    EXPECT_THAT(outcome.out, StartsWith(half));
    EXPECT_LT(half.size(), outcome.out.size());
    EXPECT_EQ(output_of(generate() + Arguments{"--tokens", "0"}), "");
}

TEST_F(ProgramTest, GenerateDoesNotDependOnThreads) {
    const Arguments options{"--tokens", "400", "--temperature", "1.2", "--seed", "5", "--capacity", "100"};
    const std::string one = output_of(generate() + options);
    for (const std::string& threads : thread_counts) EXPECT_EQ(one, output_of(generate(threads) + options));
    const Arguments all_cores{"generate", "--model", file("m.bin"), "--ignore-eos"};
    EXPECT_EQ(one, output_of(all_cores + options));
}

TEST_F(ProgramTest, GenerateDrawsByTheSeed) {
    const auto text = [](const char* seed, const char* top_k) {
        return output_of(generate() +
                         Arguments{"--tokens", "50", "--temperature", "1", "--seed", seed, "--top-k", top_k});
    };
    EXPECT_EQ(text("1", "0"), text("1", "0"));
    EXPECT_NE(text("1", "0"), text("2", "0"));
    EXPECT_EQ(text("1", "1"), output_of(generate() + Arguments{"--tokens", "50"}));  // one token is no choice
}

TEST_F(ProgramTest, GenerateWritesThePromptFirst) {
    const std::string text = output_of(generate() + Arguments{"--tokens", "20", "--prompt", "a bee\tor \xc3\xa9"});
    EXPECT_THAT(text, StartsWith("a bee\tor \xc3\xa9"));
    Surroundings with;
    with.input = "a bee\tor \xc3\xa9";
    EXPECT_EQ(output_of(generate() + Arguments{"--tokens", "20", "--prompt", "-"}, with), text);
    // A prompt longer than the cache, in chunks of any size.
    for (int i = 0; i < 400; ++i) with.input += " word";
    const Arguments options{"--tokens", "20", "--prompt", "-", "--capacity", "64"};
    const Outcome whole = run(generate() + options, with);
    EXPECT_EQ(whole.status, 0);
    EXPECT_THAT(whole.out, StartsWith(with.input));
    EXPECT_THAT(whole.err, ContainsRegex("cache [0-9]+/64, [1-9][0-9]+ compressions"));
    for (const char* const chunk : {"1", "7", "333"}) {
        EXPECT_EQ(output_of(generate() + options + Arguments{"--prefill-chunk", chunk}, with), whole.out);
    }
}

TEST_F(ProgramTest, GenerateStopsAtTheEndOfTheText) {
    // Of random tokens, one of 256 ends a text.
    const Arguments options{"generate",      "--model", file("m.bin"), "--tokens", "3000",
                            "--temperature", "3",       "--top-p",     "1"};
    const Outcome stopped = run(options);
    EXPECT_EQ(stopped.status, 0);
    EXPECT_LT(std::stoi(stopped.err), 3000);
    const std::string whole = output_of(options + Arguments{"--ignore-eos"});
    EXPECT_THAT(whole, StartsWith(stopped.out));
    EXPECT_THAT(whole.substr(stopped.out.size()), testing::AnyOf(StartsWith("\n<s>\n"), StartsWith("\n</s>\n")));
}

TEST_F(ProgramTest, GenerateKeepsControlCharactersOffTheTerminal) {
    const std::string text =
        output_of(generate() + Arguments{"--tokens", "2000", "--temperature", "3", "--top-p", "1"});
    for (const char c : text) {
        const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
        EXPECT_TRUE(!control || (c >= '\t' && c <= '\r')) << static_cast<int>(c);
    }
    EXPECT_TRUE(std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }));
}

TEST_F(ProgramTest, GenerateRunsUnderEveryPolicyAndType) {
    for (const char* const type : {"f32", "f16", "bf16"}) {
        for (const char* const policy : {"low-pass", "local-window", "full"}) {
            Arguments arguments = generate() + Arguments{"--tokens", "200", "--policy", policy, "--cache-type", type};
            const bool full = policy == std::string("full");
            if (!full) arguments = arguments + Arguments{"--capacity", "80", "--recent", "8", "--ratio", "0.3"};
            const Outcome outcome = run(arguments);
            EXPECT_EQ(outcome.status, 0) << outcome.err;
            // 68 entries become 20: after 80 tokens once every 48.
            EXPECT_THAT(outcome.err, HasSubstr(full ? "; cache 200\n" : "; cache 56/80, 3 compressions\n"));
        }
    }
}

TEST_F(ProgramTest, GenerateEndsCleanlyWhenItIsInterrupted) {
    for (const int signal : {SIGINT, SIGTERM}) {
        bool sent = false;
        Surroundings with;
        with.on_text = [&](pid_t child, const Outcome& so_far) {
            if (!sent && so_far.out.size() > 100) sent = ::kill(child, signal) == 0;
        };
        const Outcome outcome = run(generate() + Arguments{"--tokens", "100000000"}, with);
        EXPECT_EQ(outcome.status, 128 + signal);
        EXPECT_THAT(outcome.err, MatchesRegex("[0-9]+ tokens in .* compressions; interrupted\n"));
    }
}

TEST_F(ProgramTest, GenerateShowsItsStateOnATerminal) {
    Surroundings with;
    with.terminal = true;
    const Outcome line = run(generate() + Arguments{"--tokens", "1000"}, with);
    EXPECT_EQ(line.status, 0);
    EXPECT_EQ(line.out, output_of(generate() + Arguments{"--tokens", "1000"}));
    EXPECT_THAT(line.err, ContainsRegex("\r\033\\[2K[0-9]+ tokens.*cache [0-9]+/512, [0-9]+ compressions"));
    EXPECT_THAT(line.err, ContainsRegex("\r\033\\[2K1000 tokens in .* compressions\r\n$"));

    with.terminal_out = true;  // the text streams to the same terminal, the state stays below it
    const Outcome bottom = run(generate() + Arguments{"--tokens", "1000", "--capacity", "64"}, with);
    EXPECT_EQ(bottom.status, 0);
    EXPECT_THAT(bottom.err, HasSubstr("\033[1;23r"));
    EXPECT_THAT(bottom.err, ContainsRegex("\033\\[24;1H\033\\[2K\033\\[7m[0-9]+ tokens.*cache [0-9]+/64"));
    const std::size_t reset = bottom.err.rfind("\033[r");
    ASSERT_NE(reset, std::string::npos);
    EXPECT_EQ(bottom.err.find("\033[1;", reset), std::string::npos) << "the scrolling region is left behind";
}

TEST_F(ProgramTest, GenerateSaysWhenItCannotWrite) {
    Surroundings with;
    with.out_file = "/dev/full";
    expect_refusal(run(generate(), with), 1, {"standard output", "No space left"});
}

TEST_F(ProgramTest, WarnsAboveTheTrainedContext) {
    const Outcome above = run(generate() + Arguments{"--tokens", "3", "--capacity", "513"});
    EXPECT_EQ(above.status, 0);
    EXPECT_THAT(above.err, StartsWith("freqkv-llama: warning: --capacity 513 is above the 512 tokens"));
    EXPECT_THAT(run(generate() + Arguments{"--tokens", "3", "--capacity", "512"}).err, StartsWith("3 tokens"));
}

TEST_F(ProgramTest, FindsTheTokenizerBesideTheModel) {
    const auto with_tokenizer = [&](const std::string& name) {
        std::filesystem::remove_all(own_.path());
        std::filesystem::create_directory(own_.path());
        std::filesystem::copy(file("m.bin"), own_ / "m.bin");
        if (!name.empty()) std::filesystem::copy(file("m.tokenizer.bin"), own_ / name);
        return run({"generate", "--model", own_ / "m.bin", "--tokens", "30"});
    };
    const std::string text = with_tokenizer("m.tokenizer.bin").out;
    EXPECT_NE(text, "");
    EXPECT_EQ(with_tokenizer("tok512.bin").out, text);
    EXPECT_EQ(with_tokenizer("tokenizer.bin").out, text);
    expect_refusal(with_tokenizer("tok511.bin"), 1,
                   {own_ / "m.bin", "m.tokenizer.bin", "tok512.bin", "tokenizer.bin", "--tokenizer"});
    EXPECT_EQ(output_of({"generate", "--model", own_ / "m.bin", "--tokens", "30", "--tokenizer", own_ / "tok511.bin"}),
              text);
}

// --- perplexity

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
        for (const char* const policy : {"low-pass", "local-window", "full"}) {
            const bool full = policy == std::string("full");
            Arguments options = perplexity() + Arguments{"--limit", "300", "--policy", policy, "--cache-type", type};
            if (!full) options = options + Arguments{"--capacity", "64"};
            const json result = json_of(options);
            const std::vector<double> nll = result["nll"];
            EXPECT_EQ(result["cache_bytes"], 5 * 2 * 4 * 8 * (full ? 300 : 64) * (type == std::string("f32") ? 4 : 2));
            EXPECT_EQ(result["compressions"], full ? 0 : 8);
            EXPECT_EQ(result.contains("capacity"), !full);
            if (type == std::string("f32")) exact[policy] = nll;
            EXPECT_LT(largest_difference(nll, exact[policy]), 0.3);
        }
    }
    EXPECT_GT(largest_difference(exact["low-pass"], exact["full"]), 0.01);
    EXPECT_GT(largest_difference(exact["low-pass"], exact["local-window"]), 0.01);
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
    Surroundings with;
    with.terminal = true;
    const Outcome outcome = run(perplexity() + Arguments{"--prefill-chunk", "10"}, with);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, ContainsRegex("\\[[#.]+\\] +[0-9]+ %, [0-9:]+ left, perplexity [0-9.]+"));
    EXPECT_THAT(outcome.err, testing::EndsWith("\r\033[2K"));
    EXPECT_THAT(outcome.out, StartsWith("perplexity"));
}

TEST_F(ProgramTest, PerplexityKeepsWhatItHasWhenItIsInterrupted) {
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
    EXPECT_GT(saved["state"]["nll"].size(), 0u);
}

TEST_F(ProgramTest, PerplexityGoesOnAfterAKill) {
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

        const std::size_t known = json::parse(read_text(partial))["state"]["nll"].size();
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

// --- tokenize

TEST_F(ProgramTest, TokenizeWritesWhatPerplexityReads) {
    std::string content;
    for (int i = 0; i < 300; ++i) content += "Once upon a t\xc3\xadme.\n";
    const std::string text = own_.write("text.txt", content);
    const std::string ids = own_ / "ids.u16";
    const Arguments tokenize{"tokenize", "--model", file("m.bin"), "--text", text, "--out", ids};
    const json counts = json_of(tokenize);
    EXPECT_EQ(counts["bytes"], content.size());
    EXPECT_EQ(counts["tokens"], std::filesystem::file_size(ids) / 2);
    EXPECT_EQ(counts["bytes_per_token"], static_cast<double>(content.size()) / counts["tokens"].get<double>());
    EXPECT_EQ(counts["vocabulary"], 512);
    EXPECT_THAT(output_of(tokenize), MatchesRegex(std::to_string(content.size()) +
                                                  " bytes, [0-9]+ tokens, [0-9]+\\.[0-9]+ bytes per token\n"));
    const Arguments model{"perplexity", "--model", file("m.bin"), "--threads", "1", "--limit", "300"};
    EXPECT_EQ(nll_of(model + Arguments{"--token-file", ids, "--token-format", "u16"}),
              nll_of(model + Arguments{"--text", text}));
}

TEST_F(ProgramTest, TokenizeNeedsNoModel) {
    const std::string tokenizer = FREQKV_FIXTURES_DIR "/tokenizers/llama2";
    const std::string text = own_.write("text.txt", "The\n");
    const std::string out = own_ / "ids.u16";
    const Arguments tokenize{"tokenize", "--text", text, text, "--out", out, "--tokenizer"};
    for (const std::string& name : {tokenizer, tokenizer + "/tokenizer.model"}) {
        EXPECT_EQ(run(tokenize + Arguments{name}).status, 0);
        const std::string ids = read_text(out);
        EXPECT_EQ(ids.substr(0, 2), std::string("\1\0", 2)) << "no BOS";
        EXPECT_EQ(ids.substr(0, ids.size() / 2), ids.substr(ids.size() / 2)) << "the second text";
    }
}

TEST_F(ProgramTest, TokenizeRefusesAndLeavesNothingBehind) {
    const std::string good = own_.write("good.txt", "a text");
    const std::string bad = own_.write("bad.txt", "abc\xff");
    const std::string empty = own_.write("empty.txt", "");
    const std::string tokenizer = FREQKV_FIXTURES_DIR "/tokenizers/llama2";
    const std::vector<std::string> before = own_.names();
    const auto tokenize = [&](const Arguments& arguments) {
        return run(Arguments{"tokenize", "--out", own_ / "ids.u16"} + arguments);
    };
    expect_refusal(tokenize({"--text", good}), 2, {"--tokenizer", "--model"});
    expect_refusal(tokenize({"--tokenizer", tokenizer}), 2, {"--text"});
    expect_refusal(tokenize({"--tokenizer", tokenizer, "--text", good, bad}), 1, {"bad.txt", "UTF-8", "byte 3"});
    expect_refusal(tokenize({"--tokenizer", tokenizer, "--text", empty}), 1, {"empty.txt", "empty"});
    expect_refusal(tokenize({"--tokenizer", file("m.tokenizer.bin"), "--text", good}), 1,
                   {"m.tokenizer.bin", "--model"});
    // A vocabulary that 16 bits do not hold.
    const std::string large = own_ / "large.bin";
    const std::string large_tokenizer = own_ / "large.tokenizer.bin";
    ASSERT_EQ(run_program({FREQKV_MAKE_RANDOM_CHECKPOINT, large, large_tokenizer, "--vocabulary", "65537", "--dim",
                           "16", "--heads", "2", "--kv-heads", "2", "--layers", "1"})
                  .status,
              0);
    expect_refusal(tokenize({"--model", large, "--text", good}), 1, {"large.bin", "65537", "at most 65536"});
    expect_refusal(run({"tokenize", "--tokenizer", tokenizer, "--text", good, "--out", own_ / "missing/ids.u16"}), 1,
                   {"missing/ids.u16", "No such file"});
    std::filesystem::remove(large);
    std::filesystem::remove(large_tokenizer);
    EXPECT_EQ(own_.names(), before);
}

// --- real checkpoints

TEST_F(ProgramTest, GeneratesWithTheTokenizerInsideAFile) {
    for (const char* const name : {"gguf-vocabulary-llama", "gguf-vocabulary-gpt2"}) {
        const std::string model = std::string(FREQKV_FIXTURES_DIR "/models/") + name + ".gguf";
        const std::string prompt = own_.write("prompt.txt", "Once upon a time");
        const Arguments command{"generate", "--model", model, "--tokens", "200", "--ignore-eos", "--threads", "1"};
        const Outcome from_file = run(command + Arguments{"--prompt-file", prompt});
        EXPECT_EQ(from_file.status, 0) << from_file.err;
        EXPECT_THAT(from_file.out, StartsWith("Once upon a time"));
        EXPECT_EQ(from_file.out, output_of(command + Arguments{"--prompt", "Once upon a time"}));
        EXPECT_THAT(from_file.err, HasSubstr("compressions")) << "it went on past the window";
    }
}

TEST_F(ProgramTest, MergedModelsAreTheModelWithItsAdapter) {
    const std::string models = FREQKV_FIXTURES_DIR "/models/";
    const std::string ids = own_.write("ids.txt", "1 7 3 22 14 9 30 2 11 5 6 40 8 17 33 21");
    const auto nll = [&](const Arguments& model) {
        return nll_of(Arguments{"perplexity", "--token-file", ids, "--threads", "1", "--model"} + model);
    };
    const Arguments adapter{"--adapter", models + "adapter-lora"};
    const std::vector<double> adapted = nll(Arguments{models + "llama-mha"} + adapter);
    EXPECT_GT(largest_difference(adapted, nll({models + "llama-mha"})), 1e-2) << "the adapter does nothing";
    const Arguments merge = Arguments{"merge", "--model", models + "llama-mha"} + adapter + Arguments{"--out"};
    EXPECT_EQ(run(merge + Arguments{own_ / "exact"}).status, 0);
    EXPECT_EQ(nll({own_ / "exact"}), adapted);
    EXPECT_EQ(run(merge + Arguments{own_ / "rounded", "--type", "bf16"}).status, 0);
    EXPECT_LT(largest_difference(nll({own_ / "rounded"}), adapted), 0.3);
    EXPECT_NE(nll({own_ / "rounded"}), adapted);
    expect_refusal(run(merge + Arguments{own_ / "exact"}), 1, {own_ / "exact", "empty directory"});
    expect_refusal(run({"perplexity", "--token-file", ids, "--model", models + "gguf-f32.gguf", "--adapter",
                        models + "adapter-lora"}),
                   1, {"gguf-f32.gguf", "Hugging Face"});
}

// --- flops

TEST_F(ProgramTest, FlopsNeedNoWeights) {
    const std::string config = own_.write("config.json", R"({"architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": false})");
    for (const std::string& model : {config, own_.path()}) {
        const json result = json_of({"flops", "--model", model, "--context", "8192", "--cache-type", "f16"});
        EXPECT_NEAR(result["tflops"], 125.90, 0.125);
        EXPECT_EQ(result["compressions"], 3);
        EXPECT_EQ(result["cache_bytes"], std::int64_t{2} << 30);
    }
    const std::string table = output_of({"flops", "--model", config, "--context", "8192"});
    EXPECT_THAT(table, HasSubstr("compression"));
    EXPECT_THAT(table, HasSubstr("3 compressions in each layer"));
    const json full = json_of({"flops", "--model", config, "--context", "8192", "--policy", "full"});
    EXPECT_NEAR(full["tflops"], 143.46, 0.143);
    EXPECT_EQ(full["cache_bytes"], std::int64_t{8} << 30);
}

// --- inspect

TEST_F(ProgramTest, InspectSaysWhatTheModelIsAndWhatCachesNeed) {
    const Arguments inspect{"inspect", "--model", file("m.bin")};
    const std::string text = output_of(inspect + Arguments{"--capacity", "100", "--sinks", "2", "--ratio", "0.25"});
    const std::string parameters = std::to_string((std::filesystem::file_size(file("m.bin")) - 28 - 512 * 8 * 4) / 4);
    for (const std::string& part :
         {std::string("legacy"), parameters, std::string("512 tokens, separate output projection"),
          std::string("a compression turns 98 entries into 24, once every 74 tokens"), std::string("low-pass"),
          std::string("local-window"), std::string("full, 32768 tokens"), std::string("125 KiB"),
          std::string("62.5 KiB")}) {
        EXPECT_THAT(text, HasSubstr(part));
    }
    const json result = json_of(inspect);
    EXPECT_EQ(result["rope_scaling"], "none");
    const std::string scaled = FREQKV_FIXTURES_DIR "/models/llama-3";
    EXPECT_THAT(output_of({"inspect", "--model", scaled}), HasSubstr("base 500000, scaling llama3 by 8"));
    const std::string sliding = FREQKV_FIXTURES_DIR "/models/mistral-sliding";
    EXPECT_THAT(output_of({"inspect", "--model", sliding}), HasSubstr("sliding window of 64"));
    EXPECT_EQ(result["parameters"], std::stoi(parameters));
    EXPECT_EQ(result["context"], 512);
    EXPECT_EQ(result["cache_bytes"][0]["f32"], 5 * 2 * 4 * 8 * 512 * 4);
    EXPECT_EQ(result["cache_bytes"][0]["bf16"], 5 * 2 * 4 * 8 * 512 * 2);
    EXPECT_EQ(run(inspect + Arguments{"--policy", "full"}).status, 0);
    // What inspect promises is what perplexity then holds.
    EXPECT_EQ(json_of(perplexity() + Arguments{"--limit", "10"})["cache_bytes"], result["cache_bytes"][0]["f32"]);
}

// --- on a GPU

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

// --- what is refused

TEST_F(ProgramTest, RefusesAWrongCommandLine) {
    const struct {
        Arguments arguments;
        std::vector<std::string> words;
    } cases[] = {
        {{}, {"generate, perplexity, train, finetune, tokenize, inspect, flops or merge"}},
        {{"translate"}, {"translate"}},
        {{"generate"}, {"--model"}},
        {generate() + Arguments{"--verbose"}, {"--verbose"}},
        {generate() + Arguments{"more"}, {"more"}},
        {generate() + Arguments{"--policy", "fifo"}, {"--policy", "fifo", "low-pass"}},
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

TEST_F(ProgramTest, RefusesBadModels) {
    const std::string good = read_text(file("m.bin"));
    const auto model = [&](const std::string& content) { return own_.write("bad.bin", content); };
    const auto with_field = [&](std::size_t field, std::int32_t value) {
        std::string bytes = good;
        std::memcpy(bytes.data() + 4 * field, &value, sizeof value);
        return bytes;
    };
    const struct {
        std::string path;
        std::vector<std::string> words;
    } cases[] = {
        {own_ / "missing.bin", {"missing.bin", "No such file"}},
        {own_.path(), {own_.path(), "config.json"}},
        {own_ / "missing.bin/m.bin", {"missing.bin/m.bin"}},
        {model(""), {"bad.bin", "empty"}},
        {own_.write("short.bin", good.substr(0, 20)), {"short.bin", "header"}},
        {own_.write("half.bin", good.substr(0, good.size() / 2)), {"half.bin", "truncated"}},
        {own_.write("almost.bin", good.substr(0, good.size() - 1)), {"almost.bin", "truncated"}},
        {own_.write("long.bin", good + "x"), {"long.bin", "too long"}},
        {own_.write("negative.bin", with_field(0, -64)), {"negative.bin", "width is -64"}},
        {own_.write("layers.bin", with_field(2, -1)), {"layers.bin", "layers is -1"}},
        {own_.write("absurd.bin", with_field(1, 2147483647)), {"absurd.bin", "feed-forward width is 2147483647"}},
        {own_.write("context.bin", with_field(6, 2147483647)), {"context.bin", "trained context is 2147483647"}},
        {own_.write("large.bin", with_field(2, 16000)), {"large.bin", "truncated"}},
        {own_.write("heads.bin", with_field(3, 7)), {"heads.bin", "size of a head is 9"}},
        {own_.write("text.bin", "a text and no model at all, but long enough for a header"), {"text.bin", "width"}},
    };
    const std::vector<std::string> before = own_.names();
    for (const auto& bad : cases) {
        SCOPED_TRACE(bad.path);
        expect_refusal(run({"generate", "--model", bad.path}), 1, bad.words);
        expect_refusal(run({"inspect", "--model", bad.path}), 1, bad.words);
        expect_refusal(
            run({"perplexity", "--model", bad.path, "--token-file", file("ids.txt"), "--json", own_ / "result.json"}),
            1, bad.words);
    }
    EXPECT_EQ(own_.names(), before);
}

TEST_F(ProgramTest, RefusesBadTokenizers) {
    const std::string good = read_text(file("m.tokenizer.bin"));
    const struct {
        std::string path;
        std::vector<std::string> words;
    } cases[] = {
        {own_ / "missing.bin", {"missing.bin", "No such file"}},
        {own_.path(), {own_.path(), "no tokenizer there", "tokenizer.model, tokenizer.json"}},
        {own_.write("empty.bin", ""), {"empty.bin", "empty"}},
        {own_.write("short.bin", good.substr(0, good.size() - 3)), {"short.bin", "512"}},
        {own_.write("small.bin", syllable_tokenizer(400)), {"small.bin", "ends after 400 tokens", "512"}},
        {own_.write("large.bin", syllable_tokenizer(600)), {"large.bin", "follow", "512"}},
        {file("m.bin"), {"m.bin", "not a tokenizer"}},
    };
    for (const auto& bad : cases) {
        SCOPED_TRACE(bad.path);
        expect_refusal(run(generate() + Arguments{"--tokenizer", bad.path}), 1, bad.words);
        expect_refusal(
            run({"perplexity", "--model", file("m.bin"), "--text", file("ids.txt"), "--tokenizer", bad.path}), 1,
            bad.words);
    }
}

TEST_F(ProgramTest, RefusesBadTexts) {
    const auto with_ids = [&](const std::string& name, const std::string& content) {
        return run({"perplexity", "--model", file("m.bin"), "--token-file", own_.write(name, content), "--json",
                    own_ / "result.json"});
    };
    expect_refusal(with_ids("a.txt", "1 2 512 3"), 1, {"a.txt", "token 2", "\"512\"", "512"});
    expect_refusal(with_ids("b.txt", "1 -2 3"), 1, {"b.txt", "token 1", "\"-2\""});
    expect_refusal(with_ids("c.txt", "1 99999999999999999999"), 1, {"c.txt", "token 1", "99999999999999999999"});
    expect_refusal(with_ids("d.txt", "1 2\nthree 4"), 1, {"d.txt", "token 2", "\"three\""});
    expect_refusal(with_ids("e.txt", "1 2.5"), 1, {"e.txt", "token 1", "\"2.5\""});
    expect_refusal(with_ids("f.txt", std::string("1 \0\x1b[2J 3", 9)), 1, {"f.txt", "token 1"});
    expect_refusal(with_ids("g.txt", "1 " + std::string(100000, 'x')), 1, {"g.txt", "token 1"});
    expect_refusal(with_ids("h.txt", ""), 1, {"h.txt", "at least 2"});
    expect_refusal(with_ids("i.txt", "7"), 1, {"i.txt", "at least 2"});
    EXPECT_FALSE(std::filesystem::exists(own_ / "result.json"));
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--token-file", own_ / "missing.txt"}), 1,
                   {"missing.txt", "No such file"});
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--text", own_.path()}), 1, {"Is a directory"});

    const std::string bad_text = own_.write("bad.txt", "abc\xff");
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--text", bad_text}), 1, {"bad.txt", "byte 3"});
    expect_refusal(run(generate() + Arguments{"--prompt", "ab\xc3("}), 1, {"--prompt", "UTF-8", "byte 2"});
    Surroundings with;
    with.input = "abcde\x80";
    expect_refusal(run(generate() + Arguments{"--prompt", "-"}, with), 1, {"standard input", "UTF-8", "byte 5"});
}

TEST_F(ProgramTest, RefusesOutputItCannotWriteBeforeItComputes) {
    // It would take long to notice this at the end.
    std::string ids;
    for (int i = 0; i < 3000000; ++i) ids += "7 ";
    const Arguments command{"perplexity", "--model", file("m.bin"), "--token-file", own_.write("long.txt", ids),
                            "--json"};
    expect_refusal(run(command + Arguments{own_ / "missing/result.json"}), 1, {"missing/result.json", "No such file"});
    expect_refusal(run(command + Arguments{own_.path()}), 1, {own_.path(), "Is a directory"});
    expect_refusal(run(command + Arguments{"/proc/result.json"}), 1, {"/proc/result.json"});
    expect_refusal(run({"inspect", "--model", file("m.bin"), "--json", own_ / "missing/result.json"}), 1,
                   {"missing/result.json"});
    EXPECT_EQ(own_.names(), Arguments{"long.txt"});
}

TEST_F(ProgramTest, RefusesCachesBeyondAllMemory) {
    expect_refusal(run(generate() + Arguments{"--capacity", "10000000000"}), 1, {"10000000000 entries", "MiB"});
    expect_refusal(run(generate() + Arguments{"--capacity", "1099511627776"}), 1, {"1099511627776 entries", "MiB"});
}

TEST_F(ProgramTest, MakeRandomCheckpointWritesBothFilesOrNone) {
    const std::string program = FREQKV_MAKE_RANDOM_CHECKPOINT;
    const auto make = [&](const Arguments& arguments) { return run_program(Arguments{program} + arguments); };
    ASSERT_EQ(make({own_ / "a.bin", own_ / "a.tok"}).status, 0);
    ASSERT_EQ(make({own_ / "b.bin", own_ / "b.tok", "--seed", "2"}).status, 0);
    EXPECT_EQ(read_text(own_ / "a.bin"), read_text(file("m.bin")));
    EXPECT_NE(read_text(own_ / "a.bin"), read_text(own_ / "b.bin"));
    EXPECT_EQ(read_text(own_ / "a.tok"), read_text(own_ / "b.tok"));
    ASSERT_EQ(make({own_ / "d.bin", own_ / "d.tok", "--dim", "32", "--heads", "4", "--kv-heads", "2"}).status, 0);
    EXPECT_LT(read_text(own_ / "d.bin").size(), read_text(own_ / "a.bin").size());
    const std::vector<std::string> before = own_.names();
    for (const Arguments& arguments :
         {Arguments{own_ / "c.bin", own_ / "missing/c.tok"}, Arguments{own_ / "missing/c.bin", own_ / "c.tok"}}) {
        const Outcome outcome = make(arguments);
        EXPECT_EQ(outcome.status, 1);
        EXPECT_THAT(outcome.err, MatchesRegex("make-random-checkpoint: .*/missing/c\\.[a-z]+: No such file.*\n"));
        EXPECT_EQ(own_.names(), before);
    }
    EXPECT_EQ(make({own_ / "c.bin", own_ / "c.tok", "--dim", "63"}).status, 1);  // 8 heads
    EXPECT_EQ(make({own_ / "c.bin", own_ / "c.tok", "--layers", "0"}).status, 2);
    EXPECT_EQ(own_.names(), before);
    EXPECT_EQ(make({own_ / "c.bin"}).status, 2);
    EXPECT_EQ(make({}).status, 2);
}

// --- with a trained model

const std::string shared = FREQKV_SHARED_DIR;

class TrainedModelTest : public testing::Test {
protected:
    void SetUp() override {
        for (const std::string& needed : {model_, shared + "/models/tok512.bin", shared + "/golden/tokens.txt"}) {
            if (!std::filesystem::exists(needed)) GTEST_SKIP() << "no " << needed;
        }
    }

    Arguments generate(const std::string& threads = "1") const {
        return {"generate", "--model", model_, "--threads", threads};
    }
    Arguments perplexity(int limit, const std::string& threads = "1") const {
        const std::string ids = shared + "/golden/tokens.txt";
        const std::string tokens = std::to_string(limit);
        return {"perplexity", "--model", model_, "--token-file", ids, "--limit", tokens, "--threads", threads};
    }

    const std::string model_ = shared + "/models/stories260K.bin";
};

TEST_F(TrainedModelTest, GreedyText) {
    EXPECT_THAT(
        output_of(generate()),
        StartsWith("Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
                   "One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
                   "Lily's mom said, \"Lily, let's go to the park.\""));
    EXPECT_EQ(output_of(generate() + Arguments{"--prompt", "Once upon a time", "--tokens", "30"}).substr(0, 52),
              "Once upon a time, there was a little girl named Lily");
}

TEST_F(TrainedModelTest, GoldenLosses) {
    for (const std::string name :
         {"lowpass-64", "lowpass-128-recent-16", "lowpass-100-quarter", "lowpass-512", "window-64", "full"}) {
        const json golden = json::parse(read_text(shared + "/golden/" + name + ".json"));
        const std::vector<double> expected = golden["nll"];
        const Arguments bounded{"--policy",   golden["policy"] == "low_pass" ? "low-pass" : "local-window",
                                "--capacity", golden["capacity"].dump(),
                                "--sinks",    golden["sinks"].dump(),
                                "--recent",   golden["recent"].dump(),
                                "--ratio",    golden["ratio"].dump()};
        std::vector<Arguments> ways{bounded};
        if (name == "full") ways.push_back({"--policy", "full"});
        for (const Arguments& way : ways) {
            SCOPED_TRACE(name + " " + way[1]);
            const json result = json_of(perplexity(golden["tokens"]) + way);
            EXPECT_LT(largest_difference(result["nll"], expected), 2e-3);
            const double perplexity = golden["perplexity"];
            EXPECT_NEAR(result["perplexity"], perplexity, 1e-4 * perplexity);
            EXPECT_EQ(result["tokens"], golden["tokens"]);
            EXPECT_EQ(result["compressions"], golden["compressions"]);
        }
    }
}

TEST_F(TrainedModelTest, ThreadsAndChunksDoNotMatter) {
    const Arguments cache{"--capacity", "128"};
    const Arguments tokens{"--tokens", "600", "--ignore-eos"};
    const std::vector<double> whole = nll_of(perplexity(1000) + cache);
    const std::string text = output_of(generate() + tokens);
    for (const std::string& threads : thread_counts) {
        EXPECT_EQ(nll_of(perplexity(1000, threads) + cache), whole);
        EXPECT_EQ(output_of(generate(threads) + tokens), text);
    }
    for (const char* const chunk : {"1", "7", "333"}) {
        EXPECT_LT(largest_difference(nll_of(perplexity(1000) + cache + Arguments{"--prefill-chunk", chunk}), whole),
                  1e-3);
    }
}

// Bytes of memory that a process has in use.
long resident_bytes(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/smaps_rollup");
    for (std::string word; file >> word;) {
        long kibibytes = 0;
        if (word == "Rss:" && file >> kibibytes) return 1024 * kibibytes;
    }
    return -1;
}

TEST_F(TrainedModelTest, WritesLongTextsInConstantMemory) {
    const int tokens = sanitized ? 3000 : 20000;
    const Arguments options = generate() + Arguments{"--ignore-eos", "--capacity", "512"};
    const std::size_t start = output_of(options + Arguments{"--tokens", "600"}).size();
    std::vector<long> resident;
    Surroundings with;
    with.on_text = [&](pid_t child, const Outcome& so_far) {
        const long bytes = so_far.out.size() > start && so_far.err.empty() ? resident_bytes(child) : -1;
        if (bytes > 0) resident.push_back(bytes);
    };
    const Outcome outcome = run(options + Arguments{"--tokens", std::to_string(tokens)}, with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, StartsWith(std::to_string(tokens) + " tokens"));
    EXPECT_THAT(outcome.err, HasSubstr("/512, " + std::to_string((tokens - 513) / 254 + 1) + " compressions"));
    ASSERT_GE(resident.size(), 50u) << "too few looks at the memory";
    const auto [least, most] = std::minmax_element(resident.begin(), resident.end());
    // A sanitizer holds freed memory back for a while. Otherwise, what the process touches for the first
    // time when it ends, or the kernel's own caching, is no growth.
    EXPECT_LE(*most - *least, sanitized ? 256 << 20 : 64 << 10) << *least << " to " << *most;
}

}  // namespace
}  // namespace llama
