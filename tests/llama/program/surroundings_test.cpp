// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/io/protobuf.hpp"
#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"
#include "sanitized.hpp"

// What the program meets besides its input: full disks, pipes, files that change, names that are no text.
namespace llama {
namespace {

using test::Arguments;
using test::expect_refusal;
using test::json_of;
using test::Outcome;
using test::output_of;
using test::ProgramTest;
using test::read_text;
using test::run;
using test::Surroundings;
using testing::HasSubstr;

TEST_F(ProgramTest, HelpThatCannotBeWrittenIsAnError) {
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
    Surroundings with;
    with.out_file = "/dev/full";
    for (const Arguments& arguments : {Arguments{"--help"}, {"--version"}, {"train", "--help"}}) {
        expect_refusal(run(arguments, with), 1, {"standard output", "No space left"});
    }
}

TEST_F(ProgramTest, CommandsThatReadNoWeightsTakeNoAdapter) {
    for (const char* const command : {"inspect", "flops"}) {
        expect_refusal(run({command, "--model", file("m.bin"), "--adapter", own_ / "missing"}), 2, {"--adapter"});
    }
    expect_refusal(run(generate() + Arguments{"--adapter", own_ / "missing"}), 1, {"adapter"});
}

TEST_F(ProgramTest, PipesInPlaceOfFilesAreRefusedAtOnce) {
    ASSERT_EQ(::mkfifo((own_ / "pipe").c_str(), 0600), 0);
    expect_refusal(run({"inspect", "--model", own_ / "pipe"}), 1, {"pipe: not a regular file"});
    expect_refusal(run(generate() + Arguments{"--tokenizer", own_ / "pipe"}), 1, {"pipe: not a regular file"});
    expect_refusal(
        run({"perplexity", "--model", file("m.bin"), "--token-file", own_ / "pipe", "--token-format", "u16"}), 1,
        {"pipe: not a regular file"});
    expect_refusal(run({"perplexity", "--model", file("m.bin"), "--token-file", own_ / "pipe"}), 1, {"at least 2"});
    ASSERT_EQ(::mkfifo((own_ / "result.json.partial").c_str(), 0600), 0);
    expect_refusal(run(perplexity() + Arguments{"--json", own_ / "result.json", "--resume"}), 1,
                   {"result.json.partial: not a regular file"});
}

TEST_F(ProgramTest, AModelThatGetsShorterEndsTheProgramWithOneLine) {
    const std::string model = own_.write("m.bin", read_text(file("m.bin")));
    own_.write("m.tokenizer.bin", read_text(file("m.tokenizer.bin")));
    Surroundings with;
    with.on_text = [&](pid_t, const Outcome&) { ASSERT_EQ(::truncate(model.c_str(), 4096), 0); };
    const Outcome outcome = run({"generate", "--model", model, "--prompt", "some text", "--ignore-eos", "--threads",
                                 "1", "--tokens", "1000000"},
                                with);
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.err, "freqkv-llama: " + model + ": got shorter while it was read, or its disk failed\n");
}

TEST_F(ProgramTest, NamesNeedNotBeUtf8) {
    const std::string model = own_.write("m\xff.bin", read_text(file("m.bin")));
    const Arguments arguments{"perplexity", "--model", model, "--token-file", file("ids.txt"), "--threads", "1"};
    const std::string summary = own_ / "result\xfe.json";
    output_of(arguments + Arguments{"--json", summary});
    const nlohmann::json result = nlohmann::json::parse(read_text(summary));
    EXPECT_EQ(result.at("model"), own_ / "m\xef\xbf\xbd.bin");

    const nlohmann::json state{{"made_with", {{"model", "another"}}}, {"state", nullptr}};
    own_.write("result\xfe.json.partial", state.dump());
    expect_refusal(run(arguments + Arguments{"--json", summary, "--resume"}), 2,
                   {"was made with", "m\xef\xbf\xbd.bin"});
    expect_refusal(run({"inspect", "--model", own_ / "\xff\x1b[2J"}), 1, {"\\xff\\x1b[2J: No such file"});
}

TEST_F(ProgramTest, ThreadsThatCannotBeMadeAreRefusedInOneLine) {
    if (freqkv::test::sanitized) GTEST_SKIP() << "sanitizers need more address space than this leaves";
#if !defined(_OPENMP)
    GTEST_SKIP() << "there is one thread only";
#endif
    Surroundings with;
    with.limits = {{RLIMIT_AS, rlim_t{1} << 30}};
    expect_refusal(run(generate("1024"), with), 1, {"--threads: 1024 threads cannot be made"});
    EXPECT_EQ(run(generate("2") + Arguments{"--tokens", "3"}, with).status, 0);
}

// The library writes to standard error what it has against them.
TEST_F(ProgramTest, SentencePieceModelsThatFailTheirOwnTestAreRefusedInOneLine) {
    const std::vector<std::string> pieces{"<unk>", "a", "b"};
    const std::vector<PieceType> types{PieceType::unknown, PieceType::normal, PieceType::normal};
    ProtobufWriter sample, samples, model;
    sample.add(1, std::string_view("ab"));
    sample.add(2, std::string_view("b a"));
    samples.add(1, sample.message());
    model.add(4, samples.message());
    const std::string path =
        own_.write("tokenizer.model", serialize_sentencepiece_bpe(pieces, {0, 0, 0}, types, false) + model.message());
    expect_refusal(run({"tokenize", "--tokenizer", path, "--text", file("ids.txt"), "--out", own_ / "out.u16"}), 1,
                   {"no usable SentencePiece model"});
}

}  // namespace
}  // namespace llama
