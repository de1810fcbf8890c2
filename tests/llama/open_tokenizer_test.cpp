// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/io/json_file.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/text.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {
namespace {

using testing::HasSubstr;

Checkpoint checkpoint_at(const std::string& path) {
    Checkpoint checkpoint;
    checkpoint.path = path;
    checkpoint.config.vocabulary = 512;
    return checkpoint;
}

Index vocabulary_of(const std::string& given, const std::string& checkpoint) {
    return open_tokenizer(given, checkpoint_at(checkpoint))->vocabulary();
}

TEST(OpenTokenizer, FindsTheOneInTheDirectoryOfAModel) {
    EXPECT_EQ(vocabulary_of("", test::tokenizer_fixture("llama2")), 460);
    EXPECT_EQ(vocabulary_of("", test::tokenizer_fixture("llama3")), 425);
    const test::TemporaryDirectory both;
    std::filesystem::copy(test::tokenizer_fixture("llama2/tokenizer.model"), both / "tokenizer.model");
    std::filesystem::copy(test::tokenizer_fixture("llama3/tokenizer.json"), both / "tokenizer.json");
    // tokenizer.json says more, as transformers sees it; tokenizer.model is read where it is of another kind.
    EXPECT_EQ(vocabulary_of("", both.path()), 425);
    nlohmann::json content = read_json(test::tokenizer_fixture("llama3/tokenizer.json"));
    content["model"]["type"] = "Unigram";
    both.write("tokenizer.json", content.dump());
    EXPECT_EQ(vocabulary_of("", both.path()), 460);
    EXPECT_EQ(open_tokenizer(both.path())->vocabulary(), 460);
}

TEST(OpenTokenizer, KnowsTiktokensList) {
    const test::TemporaryDirectory directory;
    const std::string list = directory.write("tokenizer.model", "IQ== 0\nIg== 1\nIw== 2\n");
    try {
        vocabulary_of("", directory.path());
        ADD_FAILURE() << "accepted";
    } catch (const FileError& error) {
        EXPECT_THAT(error.what(), HasSubstr(list + ": a list of tiktoken's"));
    }
    std::filesystem::copy(test::tokenizer_fixture("llama3/tokenizer.json"), directory / "tokenizer.json");
    EXPECT_EQ(vocabulary_of("", directory.path()), 425);
}

TEST(OpenTokenizer, FindsTheOneInsideAGgufFile) {
    const std::string models = FREQKV_FIXTURES_DIR "/models";
    const auto llama2 = open_tokenizer("", checkpoint_at(models + "/gguf-vocabulary-llama.gguf"));
    test::expect_same_ids_on_all_pages(*llama2, "llama2", [](const std::string&) {});
    EXPECT_EQ(llama2->begin_of_text(), 1);
    const auto llama3 = open_tokenizer("", checkpoint_at(models + "/gguf-vocabulary-gpt2.gguf"));
    test::expect_same_ids_on_all_pages(*llama3, "llama3", [](const std::string&) {});
    EXPECT_EQ(llama3->begin_of_text(), 420);
}

TEST(OpenTokenizer, TakesTheGivenOne) {
    const test::TemporaryDirectory directory;
    const std::string llama2c = directory.write("m.bin", syllable_tokenizer(512));
    const std::string checkpoint = test::tokenizer_fixture("llama3");
    EXPECT_EQ(vocabulary_of(llama2c, checkpoint), 512);
    EXPECT_EQ(vocabulary_of(test::tokenizer_fixture("llama2"), checkpoint), 460);
    EXPECT_EQ(vocabulary_of(test::tokenizer_fixture("llama2/tokenizer.model"), checkpoint), 460);
    EXPECT_EQ(vocabulary_of(test::tokenizer_fixture("gpt2/tokenizer.json"), llama2c), 321);
    EXPECT_EQ(vocabulary_of(FREQKV_FIXTURES_DIR "/models/gguf-vocabulary-llama.gguf", checkpoint), 460);
}

TEST(OpenTokenizer, NamesWhatItLookedFor) {
    const test::TemporaryDirectory empty;
    const auto refusal = [](const std::string& checkpoint) -> std::string {
        try {
            vocabulary_of("", checkpoint);
        } catch (const FileError& error) {
            return error.what();
        }
        return "accepted";
    };
    EXPECT_THAT(refusal(empty.path()),
                HasSubstr(empty.path() + ": no tokenizer there (looked for tokenizer.json, tokenizer.model"));
    EXPECT_THAT(refusal(empty.write("m.bin", "x")), HasSubstr("m.tokenizer.bin, tok512.bin, tokenizer.bin"));
}

TEST(EncodeText, WarnsOfASecondBosAndEndsWithEosWhereTheTokenizerDoes) {
    const auto llama3 = open_tokenizer(test::tokenizer_fixture("llama3"), {});
    testing::internal::CaptureStderr();
    EXPECT_THAT(encode_prompt(*llama3, "!", "text", 425), testing::ElementsAre(420, 0));
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    testing::internal::CaptureStderr();
    EXPECT_THAT(encode_prompt(*llama3, "<|begin_of_text|>!", "text", 425), testing::ElementsAre(420, 420, 0));
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                testing::MatchesRegex("freqkv-llama: warning: text: [^\n]*begin-of-text token[^\n]*\n"));
    const auto closed = open_tokenizer(test::tokenizer_fixture("llama2-prepend"), {});
    EXPECT_EQ(encode_text(*closed, "a", "text", 461).back(), 2);
    EXPECT_NE(encode_prompt(*closed, "a", "text", 461).back(), 2);
}

TEST(EncodeText, BeginsWithBosAndRefusesIdsThatTheModelDoesNotHave) {
    const auto llama3 = open_tokenizer(test::tokenizer_fixture("llama3"), {});
    const auto gpt2 = open_tokenizer(test::tokenizer_fixture("gpt2"), {});
    EXPECT_THAT(encode_text(*llama3, "!", "text", 425), testing::ElementsAre(420, 0));
    EXPECT_THAT(encode_text(*gpt2, " ", "text", 321), testing::ElementsAre(220));
    try {
        encode_text(*llama3, "<|eot_id|>", "text", 424);
        ADD_FAILURE() << "accepted";
    } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "text: the tokenizer gives token 424, the model's vocabulary has 424");
    }
}

}  // namespace
}  // namespace llama
