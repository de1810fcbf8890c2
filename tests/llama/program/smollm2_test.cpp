// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "llama/program/program_runs.hpp"
#include "llama/smollm2.hpp"
#include "llama/tokenizers/chat_template_file.hpp"
#include "llama/tokenizers/chat_tokens.hpp"
#include "llama/tokenizers/tokenizer.hpp"

// A real model that people talk to: SmolLM2-135M-Instruct.
namespace llama {
namespace {

using test::Arguments;
using test::output_of;
using test::run;
using test::Surroundings;
using testing::HasSubstr;
using testing::StartsWith;

class SmolLM2 : public testing::Test {
protected:
    void SetUp() override {
        const auto path = test::smollm2_path();
        if (!path) GTEST_SKIP() << test::no_smollm2;
        path_ = *path;
    }
    std::string path_;
};

TEST_F(SmolLM2, KnowsTheCapitalOfFrance) {
    const std::string text =
        output_of({"generate", "--model", path_, "--prompt", "The capital of France is", "--tokens", "8"});
    EXPECT_THAT(text, StartsWith("The capital of France is Paris"));
    const Arguments question{"--prompt", "What is the capital of France?", "--tokens", "20"};
    EXPECT_THAT(output_of(Arguments{"generate", "--model", path_, "--chat"} + question), HasSubstr("Paris"));
}

// The ids are those of transformers, by the template in the file.
TEST_F(SmolLM2, ReadsWhatItsTemplateWrites) {
    const ChatTemplate chat = open_chat_template("", path_);
    const auto tokenizer = open_tokenizer(path_);
    EXPECT_EQ(encode_chat(*tokenizer, chat.first_turn("What is the capital of France?")),
              (std::vector<Token>{1,   9690, 198, 2683, 359,   253,  5356, 5646, 11173, 3365, 3511, 308,  34519,
                                  28,  7018, 411, 407,  19712, 8182, 2,    198,  1,     4093, 198,  1780, 314,
                                  260, 3575, 282, 4649, 47,    2,    198,  1,    520,   9531, 198}));
}

TEST_F(SmolLM2, ConversesPastItsCache) {
    Surroundings with;
    for (int i = 0; i < 6; ++i) with.input += "What is the capital of France?\n";
    with.input += "/cache\n";
    const auto outcome =
        run({"chat", "--model", path_, "--temperature", "0", "--capacity", "128", "--tokens", "24"}, with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, StartsWith("The capital of France is Paris"));
    EXPECT_THAT(outcome.err, HasSubstr("layers 0 to 29: "));
    EXPECT_THAT(outcome.err, testing::Not(HasSubstr(" 0 compressions")));
}

}  // namespace
}  // namespace llama
