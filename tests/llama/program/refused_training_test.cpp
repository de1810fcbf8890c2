// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/program/train_fixture.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::content_of;
using test::expect_refusal;
using test::instruction;
using test::names_of;
using test::Outcome;
using test::output_of;
using test::run;
using test::tokenizer_file;
using test::TrainProgram;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

TEST_F(TrainProgram, RefusesAModelWhoseArithmeticItDoesNotHave) {
    const std::vector<std::pair<std::string, std::string>> cases{{"qwen3", "norms of queries and keys"},
                                                                 {"smollm3", "layers without rotation"},
                                                                 {"phi3", "joined projections"},
                                                                 {"gemma2", "norms of what a block gives"},
                                                                 {"llama-biases", "a bias behind the attention"}};
    for (const auto& [model, feature] : cases) {
        const std::string path = FREQKV_FIXTURES_DIR "/models/" + model;
        expect_refusal(run({"finetune", "--model", path, "--text", file("text.txt"), "--out", file("out")}), 1,
                       {model + ": finetune does not support " + feature});
        EXPECT_FALSE(fs::exists(file("out")));
    }
}

TEST_F(TrainProgram, RefusesBadData) {
    files_.write("empty.txt", "");
    files_.write("latin.txt", "caf\xe9");
    files_.write("short.txt", "the cat");
    files_.write("odd.u16", "abc");
    files_.write("large.u16", std::string(200, '\xff'));
    files_.write("ids.txt", "1 2 3 460 5");
    files_.write("words.txt", "1 2 three");
    files_.write("broken.json", "[{\"instruction\": ");
    files_.write("object.json", "{}");
    files_.write("unanswered.json", json::array({instruction("a", "b"), {{"instruction", "c"}}}).dump());
    files_.write("number.json", json::array({{{"instruction", 1}, {"output", "a"}}}).dump());
    files_.write("silent.json", json::array({instruction("a", "")}).dump());
    const std::vector<std::pair<Arguments, std::vector<std::string>>> cases{
        {{"--text", file("missing.txt")}, {"missing.txt: No such file"}},
        {{"--text", file("empty.txt")}, {"empty.txt: the file is empty"}},
        {{"--text", file("text.txt"), file("latin.txt")}, {"latin.txt: not UTF-8 at byte 3"}},
        {{"--text", file("short.txt")}, {"short.txt: ", "fewer than the 32 + 1", "--length 32"}},
        {{"--text", file("text.txt"), "--length", "100000"}, {"text.txt: ", "--length 100000"}},
        {{"--text", file("text.txt"), "--valid", file("short.txt")}, {"short.txt: ", "--length 32"}},
        {{"--token-file", file("odd.u16")}, {"odd.u16: 3 bytes are no whole number of 16-bit ids"}},
        {{"--token-file", file("large.u16")}, {"large.u16: token 0 is 65535", "vocabulary of 460"}},
        {{"--token-file", file("ids.txt"), "--token-format", "decimal"}, {"ids.txt: token 3", "vocabulary of 460"}},
        {{"--token-file", file("words.txt"), "--token-format", "decimal"}, {"words.txt: token 2", "\"three\""}},
        {{"--instructions", file("broken.json")}, {"broken.json: no usable JSON"}},
        {{"--instructions", file("object.json")}, {"object.json: ", "no JSON array"}},
        {{"--instructions", file("unanswered.json")}, {"unanswered.json: record 1: output is missing"}},
        {{"--instructions", file("number.json")}, {"number.json: record 0: instruction"}},
        {{"--instructions", file("silent.json")}, {"silent.json: none of its 1 records"}},
        {{"--instructions", file("text.txt")}, {"text.txt: no usable JSON"}},
    };
    for (const auto& [data, words] : cases) {
        SCOPED_TRACE(data.back());
        expect_refusal(run(train("out", data)), 1, words);
        EXPECT_THAT(names_of(file("out")), IsEmpty());
    }
    expect_refusal(run({"train", "--tokenizer", tokenizer_file, "--out", file("out")}), 2,
                   {"--text", "--token-file", "--instructions"});
    const Arguments two{"--text", file("text.txt"), "--token-file", file("ids.txt")};
    expect_refusal(run(train("out", two)), 2, {"--token-file"});
    const Arguments others{"--text", file("text.txt"), "--instructions", file("object.json")};
    expect_refusal(run(train("out", others)), 2, {"--instructions"});
}

TEST_F(TrainProgram, RefusesSizesAsTheOtherCommandsDo) {
    const std::vector<std::pair<Arguments, std::vector<std::string>>> cases{
        {{"--policy", "full", "--capacity", "16"}, {"--policy full", "--capacity"}},
        {{"--policy", "low-pass", "--capacity", "5"}, {"--capacity 5", "at least sinks + recent + 2"}},
        {{"--policy", "low-pass", "--sinks", "32"}, {"--sinks 32", "at least sinks + recent + 2"}},
        {{"--policy", "local-window", "--recent", "30"}, {"--recent 30", "at least sinks + recent + 2"}},
        {{"--policy", "low-pass", "--ratio", "1"}, {"--ratio", "between 0 and 1"}},
        {{"--policy", "low-pass", "--ratio", "0.001"}, {"--ratio", "keeps nothing"}},
        {{"--policy", "high-pass"}, {"--policy"}},
        {{"--steps", "0"}, {"--steps"}},
        {{"--clip", "-1"}, {"--clip"}},
        {{"--seed", "-1"}, {"--seed"}},
        {{"--type", "f16"}, {"--type"}},
    };
    for (const auto& [options, words] : cases) {
        SCOPED_TRACE(options.back());
        expect_refusal(run(train("out", options)), 2, words);
        EXPECT_TRUE(!fs::exists(file("out")) || fs::is_empty(file("out")));
    }
    // More positions than a model has seen are a matter of taste.
    const Outcome outcome = run(train("long", {"--steps", "1", "--policy", "low-pass", "--capacity", "40"}));
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, HasSubstr("warning: --capacity 40 is above the 32 tokens"));
}

TEST_F(TrainProgram, RefusesShapesThatNoModelHas) {
    const auto with = [&](const std::string& option, const std::string& value) {
        return run(train("out", {option, value}));
    };
    expect_refusal(with("--dim", "36"), 2, {"--dim 36", "2 --heads", "8"});
    expect_refusal(with("--kv-heads", "3"), 2, {"--kv-heads 3", "divide --heads", "4"});
    expect_refusal(with("--learning-rate", "0"), 2, {"--learning-rate"});
    expect_refusal(with("--learning-rate", "1e30"), 2, {"--learning-rate"});
    expect_refusal(with("--tokenizer", file("text.txt")), 1, {"text.txt"});
    const std::string gguf = FREQKV_FIXTURES_DIR "/models/gguf-vocabulary-llama.gguf";
    expect_refusal(with("--tokenizer", gguf), 1, {gguf, "must be tokenizer.model or .json"});
    EXPECT_FALSE(fs::exists(file("out")));
}

TEST_F(TrainProgram, RefusesModelsThatCannotBeTrainedFurther) {
    const auto refused = [&](const std::string& model) { return run(finetune("out", {"--model", model})); };
    const std::string gguf = FREQKV_FIXTURES_DIR "/models/gguf-f32.gguf";
    expect_refusal(refused(gguf), 1, {gguf, "tokenizer.ggml.model is missing"});
    expect_refusal(run(finetune("out", {"--model", gguf, "--full"})), 2, {"--full", gguf, "config.json"});
    expect_refusal(refused(file("nowhere")), 1, {"nowhere", "No such file"});
    fs::create_directory(file("nothing"));
    expect_refusal(refused(file("nothing")), 1, {"nothing/config.json"});
    expect_refusal(run(finetune("out", {"--full", "--rank", "4"})), 2, {"--full", "--rank"});
    EXPECT_FALSE(fs::exists(file("out")));
}

TEST_F(TrainProgram, WritesNowhereButIntoItsOwnDirectory) {
    fs::create_directory(file("used"));
    files_.write("used/notes", "mine");
    expect_refusal(run(train("used")), 1, {"used: exists; must be new or an empty directory"});
    EXPECT_THAT(names_of(file("used")), ElementsAre("notes"));
    expect_refusal(run(train("used", {"--resume"})), 2, {"--resume", "training_state.safetensors"});
    expect_refusal(run(train("text.txt")), 1, {"text.txt: Not a directory"});
    expect_refusal(run(train("text.txt/out")), 1, {"text.txt/out: "});
    expect_refusal(run(finetune("base")), 1, {"base: holds a training that is finished"});
    // Noticed before the work, not after it.
    expect_refusal(run(train("out", {"--json", file("nowhere/run.json")})), 1, {"nowhere/run.json"});
    EXPECT_THAT(names_of(file("out")), IsEmpty());
    // A finished training stays, and there is nothing to do for it.
    output_of(train("out", {"--steps", "1"}));
    const auto before = content_of(file("out"));
    expect_refusal(run(train("out", {"--steps", "1"})), 1, {"out: holds a training that is finished"});
    EXPECT_EQ(output_of(train("out", {"--steps", "1", "--resume"})), file("out") + ": finished before, 1 steps\n");
    expect_refusal(run(train("out", {"--steps", "1", "--resume", "--seed", "1"})), 2,
                   {"--seed: ", "was started with 0"});
    EXPECT_TRUE(content_of(file("out")) == before);
}

TEST_F(TrainProgram, RefusesAModelWhoseNameAnAdapterCannotHold) {
    expect_refusal(run(finetune("out", {"--model", files_ / "mod\xe8le"})), 2, {"--model: the name", "is not UTF-8"});
    EXPECT_FALSE(fs::exists(file("out")));
}

}  // namespace
}  // namespace llama
