// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::json_of;
using test::nll_of;
using test::output_of;
using test::ProgramTest;
using test::read_text;
using test::run;
using test::run_program;
using testing::MatchesRegex;

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
    EXPECT_THAT(output_of(tokenize),
                MatchesRegex(std::to_string(content.size()) +
                             " bytes, [0-9]+ tokens, [0-9]+\\.[0-9]+ bytes per token, u16: 16 bits each\n"));
    EXPECT_EQ(counts["token_format"], "u16");
    const Arguments model{"perplexity", "--model", file("m.bin"), "--threads", "1", "--limit", "300"};
    EXPECT_EQ(nll_of(model + Arguments{"--token-file", ids, "--token-format", "u16"}),
              nll_of(model + Arguments{"--text", text}));
    // The same in 32 bits; either file is refused where it is taken for the other.
    const std::string wide = own_ / "ids.u32";
    EXPECT_EQ(json_of({"tokenize", "--model", file("m.bin"), "--text", text, "--out", wide, "--token-format",
                       "u32"})["tokens"],
              counts["tokens"]);
    EXPECT_EQ(std::filesystem::file_size(wide), 2 * std::filesystem::file_size(ids));
    EXPECT_EQ(nll_of(model + Arguments{"--token-file", wide, "--token-format", "u32"}),
              nll_of(model + Arguments{"--text", text}));
    expect_refusal(run(model + Arguments{"--token-file", wide, "--token-format", "u16"}), 1, {"ids.u32", "32 bits"});
    expect_refusal(run(model + Arguments{"--token-file", ids, "--token-format", "u32"}), 1,
                   {"ids.u16", "vocabulary of 512"});
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
    expect_refusal(tokenize({"--model", large, "--text", good, "--token-format", "u16"}), 1,
                   {"large.bin", "65537", "at most 65536"});
    const std::string wide = own_ / "wide.u32";
    EXPECT_EQ(json_of({"tokenize", "--model", large, "--text", good, "--out", wide})["token_format"], "u32");
    std::filesystem::remove(wide);
    expect_refusal(run({"tokenize", "--tokenizer", tokenizer, "--text", good, "--out", own_ / "missing/ids.u16"}), 1,
                   {"missing/ids.u16", "No such file"});
    std::filesystem::remove(large);
    std::filesystem::remove(large_tokenizer);
    EXPECT_EQ(own_.names(), before);
}

}  // namespace
}  // namespace llama
