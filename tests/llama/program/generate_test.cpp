// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "llama/io/utf8.hpp"
#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::expect_refusal;
using test::has_terminal;
using test::Outcome;
using test::output_of;
using test::ProgramTest;
using test::run;
using test::Surroundings;
using test::thread_counts;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

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
    EXPECT_FALSE(first_invalid_utf8(text)) << "bytes of a broken character are no text either";
    EXPECT_THAT(text, ContainsRegex("\\\\x[0-9a-f][0-9a-f]"));
    EXPECT_THAT(output_of(generate() + Arguments{"--tokens", "0", "--prompt",
                                                 "a\x1b[2Jb\xc2\x9b"
                                                 "c\n"}),
                StartsWith("a\\x1b[2Jb\\xc2\\x9bc\n"));
}

TEST_F(ProgramTest, GenerateRunsUnderEveryPolicyAndType) {
    for (const char* const type : {"f32", "f16", "bf16"}) {
        for (const char* const policy :
             {"low-pass", "local-window", "snapkv", "tova", "h2o", "key-diff", "key-norm", "value-norm", "full"}) {
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
    if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
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
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
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

}  // namespace
}  // namespace llama
