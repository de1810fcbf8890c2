// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/gguf_writer.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

// freqkv-llama-cpp beside freqkv-llama, on a model of random numbers.
namespace llama {
namespace {

using test::Outcome;
using test::run_program;
using testing::HasSubstr;
using testing::StartsWith;

class LlamaCppProgram : public testing::Test {
protected:
    LlamaCppProgram() {
        test::GgufModelOptions options;
        options.dim = 128, options.heads = 2, options.kv_heads = 1, options.hidden = 64, options.vocabulary = 40;
        model_ = files_.write("model.gguf", test::small_gguf(options).bytes());
        std::string ids;
        for (int i = 0; i < 1500; ++i) ids += std::to_string((i * i + 7 * i) % 40) + " ";
        ids_ = files_.write("ids.txt", ids);
    }

    std::vector<std::string> perplexity(const std::string& program, const std::vector<std::string>& options) const {
        std::vector<std::string> command{program, "perplexity", "--model", model_, "--token-file", ids_, "--json", "-"};
        command.insert(command.end(), options.begin(), options.end());
        return command;
    }

    static nlohmann::json result_of(const std::vector<std::string>& command) {
        const Outcome outcome = run_program(command);
        EXPECT_EQ(outcome.status, 0) << outcome.err;
        return nlohmann::json::parse(outcome.out, nullptr, false);
    }

    std::string refusal(const std::vector<std::string>& options) const {
        const Outcome outcome = run_program(perplexity(FREQKV_LLAMA_CPP, options));
        EXPECT_NE(outcome.status, 0);
        EXPECT_THAT(outcome.err, StartsWith("freqkv-llama-cpp: "));
        return outcome.err;
    }

    test::TemporaryDirectory files_;
    std::string model_;
    std::string ids_;
};

TEST_F(LlamaCppProgram, PredictsLikeTheReferenceLlama) {
    const std::vector<std::string> bounded{"--policy", "low-pass", "--capacity", "256", "--cache-type", "f32"};
    const nlohmann::json theirs = result_of(perplexity(FREQKV_LLAMA_CPP, bounded));
    const nlohmann::json ours = result_of(perplexity(FREQKV_LLAMA, bounded));
    EXPECT_NEAR(theirs.at("perplexity").get<double>() / ours.at("perplexity").get<double>(), 1, 1e-3);
    EXPECT_EQ(theirs.at("cache_bytes"), ours.at("cache_bytes"));
}

TEST_F(LlamaCppProgram, RefusesByNameWhatLibllamaHasNot) {
    EXPECT_THAT(refusal({"--policy", "h2o", "--capacity", "256"}), HasSubstr("--policy h2o is not among those"));
    EXPECT_THAT(refusal({"--capacity", "300"}), HasSubstr("multiples of 256 entries; --capacity 512"));
    EXPECT_THAT(refusal({"--capacity", "256", "--cache-type", "q2"}), HasSubstr("--cache-type q2: libllama has f32"));
    EXPECT_THAT(refusal({"--capacity", "256", "--positions", "text"}), HasSubstr("--positions text"));
    EXPECT_THAT(refusal({"--capacity", "256", "--adapter", "somewhere"}), HasSubstr("adapter"));
}

}  // namespace
}  // namespace llama
