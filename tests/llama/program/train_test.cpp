// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/program/train_fixture.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_same_result;
using test::has_terminal;
using test::losses_of;
using test::make_text;
using test::mean_loss;
using test::names_of;
using test::not_drawn;
using test::Outcome;
using test::output_of;
using test::parse;
using test::read_text;
using test::run;
using test::Surroundings;
using test::tokenizer_file;
using test::training_thread_counts;
using test::TrainProgram;
using test::vocabulary;
using test::without_note;
using testing::AllOf;
using testing::Contains;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

namespace fs = std::filesystem;

TEST_F(TrainProgram, TrainMakesAModelThatPredictsTheText) {
    const Outcome outcome = run(train("model", {"--steps", "40"}));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, MatchesRegex(".*/model: 40 steps, 10240 tokens in 0:[0-9]+, loss [0-9.]+ .*\n"));
    EXPECT_THAT(outcome.err, AllOf(ContainsRegex("step 2 of 40, loss [0-9.]+, [0-9]+ tokens/s, 0:[0-9]+ left\n"),
                                   HasSubstr("step 40 of 40, loss ")));
    EXPECT_NEAR(mean_loss(file("model"), 0, 1), std::log(vocabulary), 0.1) << "before it learnt anything";
    EXPECT_LT(mean_loss(file("model"), 35, 5), 2.5);
    // What is saved is what was trained: the text's loss is that of the last steps, also in 16 bits.
    EXPECT_NEAR(loss(file("model"), {"--window", "33", "--stride", "32", "--policy", "full"}),
                mean_loss(file("model"), 35, 5), 0.3);
    EXPECT_LT(loss(file("model"), small_cache()), 4);
    std::vector<std::string> names = names_of(file("model"));
    std::erase(names, "loss.svg");  // where gnuplot is
    EXPECT_THAT(
        names, ElementsAre("config.json", "loss.csv", "model.safetensors", "tokenizer.model", "tokenizer_config.json"));
    const json config = parse(read_text(files_ / "model/config.json"));
    EXPECT_EQ(config["hidden_size"], 32);
    EXPECT_EQ(config["max_position_embeddings"], 32);
    EXPECT_EQ(config["vocab_size"], vocabulary);
    EXPECT_EQ(config["dtype"], "bfloat16");
    EXPECT_EQ(config["tie_word_embeddings"], false);
}

TEST_F(TrainProgram, TrainSharesTheClassifierOnDemand) {
    output_of(train("own", {"--steps", "5", "--type", "f32"}));
    output_of(train("shared", {"--steps", "5", "--type", "f32", "--tie"}));
    EXPECT_EQ(parse(read_text(files_ / "shared/config.json"))["tie_word_embeddings"], true);
    EXPECT_NEAR(static_cast<double>(fs::file_size(files_ / "own/model.safetensors") -
                                    fs::file_size(files_ / "shared/model.safetensors")),
                vocabulary * 32 * 4, 200);
    EXPECT_LT(loss(file("shared"), small_cache()), std::log(vocabulary));
}

TEST_F(TrainProgram, TokensAreAsGoodAsTheirText) {
    output_of(train("text", {"--steps", "3"}));
    output_of({"tokenize", "--tokenizer", tokenizer_file, "--text", file("text.txt"), "--out", file("ids.u16")});
    output_of(train("u16", {"--steps", "3", "--token-file", file("ids.u16")}));
    expect_same_result(file("u16"), file("text"));
    const std::string ids = read_text(file("ids.u16"));
    std::string decimal;
    for (std::size_t i = 0; i < ids.size(); i += 2) {
        decimal +=
            std::to_string(static_cast<unsigned char>(ids[i]) + 256 * static_cast<unsigned char>(ids[i + 1])) + " ";
    }
    files_.write("ids.txt", decimal);
    output_of(train("decimal", {"--steps", "3", "--token-file", file("ids.txt"), "--token-format", "decimal"}));
    expect_same_result(file("decimal"), file("text"));
}

TEST_F(TrainProgram, ValidationIsMeasuredOnOtherTexts) {
    files_.write("other.txt", make_text(2, 60));
    const Outcome outcome = run(train("model", {"--steps", "20", "--valid", file("other.txt"), "--valid-every", "8",
                                                "--valid-texts", "5", "--json", "-"}));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const auto rows = losses_of(file("model"));
    for (std::size_t step = 1; step <= 20; ++step) {
        EXPECT_EQ(rows.at(step).at(5).empty(), step % 8 != 0) << "step " << step;
    }
    EXPECT_NEAR(std::stod(rows.at(16).at(5)), std::stod(rows.at(16).at(3)), 0.5) << "a text of the same kind";
    EXPECT_THAT(outcome.err, HasSubstr("validation loss"));
    // The rest does not depend on it.
    output_of(train("without", {"--steps", "20"}));
    EXPECT_EQ(read_text(files_ / "model/model.safetensors"), read_text(files_ / "without/model.safetensors"));
}

TEST_F(TrainProgram, JsonSummarisesTheTraining) {
    const Outcome outcome = run(train("model", {"--steps", "4", "--json", "-"}));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const json result = parse(outcome.out);
    ASSERT_TRUE(result.is_object()) << outcome.out;
    EXPECT_EQ(result["out"], file("model"));
    EXPECT_EQ(result["steps"], 4);
    EXPECT_EQ(result["tokens"], 4 * 8 * 32);
    EXPECT_EQ(result["trained_numbers"], 2 * 460 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 3 * 32);
    EXPECT_NEAR(result["loss"], mean_loss(file("model"), 0, 4), 1e-9);
    EXPECT_GT(result["tokens_per_second"], 0);
    EXPECT_GT(result["peak_memory_bytes"], 1 << 20);
    EXPECT_FALSE(result.contains("validation_loss"));
    // Also beside the model.
    EXPECT_EQ(run(train("other", {"--steps", "4", "--json", file("other/run.json")})).status, 0);
    EXPECT_EQ(parse(read_text(files_ / "other/run.json"))["loss"], result["loss"]);
}

TEST_F(TrainProgram, StatusIsALineOnATerminal) {
    if (!has_terminal()) GTEST_SKIP() << "no pseudo-terminal here";
    Surroundings with;
    with.terminal = true;
    const Outcome outcome = run(train("model", {"--steps", "4"}), with);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("\r\033[2Kstep "), Not(HasSubstr("left\r\n"))));
}

TEST_F(TrainProgram, SaysOnceThatThereIsNoGnuplot) {
    fs::create_directory(file("no programs"));
    Surroundings with;
    with.path = file("no programs");
    const Outcome outcome = run(train("model", {"--steps", "4", "--save-every", "1"}), with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(not_drawn));
    EXPECT_THAT(without_note(outcome.err), Not(HasSubstr("gnuplot")));
    EXPECT_THAT(names_of(file("model")), AllOf(Contains("loss.csv"), Not(Contains("loss.svg"))));
}

TEST_F(TrainProgram, DoesNotDependOnThreads) {
    for (const std::string& threads : training_thread_counts) {
        const Arguments options{"--threads", threads, "--steps", "6"};
        output_of(train("t" + threads, options + Arguments{"--batch", "19"}));
        expect_same_result(file("t" + threads), file("t1"));
        output_of(finetune("f" + threads, small_cache() + options + Arguments{"--batch", "5"}));
        expect_same_result(file("f" + threads), file("f1"));
    }
}

TEST_F(TrainProgram, DependsOnTheSeed) {
    for (const char* const seed : {"1", "2"}) {
        output_of(train(seed, {"--steps", "2", "--seed", seed}));
        output_of(finetune(std::string("f") + seed, {"--steps", "2", "--seed", seed}));
    }
    EXPECT_NE(losses_of(file("1")), losses_of(file("2")));
    EXPECT_NE(losses_of(file("f1")), losses_of(file("f2")));
}

}  // namespace
}  // namespace llama
