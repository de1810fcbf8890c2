// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/program/train_fixture.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::content_of;
using test::expect_refusal;
using test::names_of;
using test::Outcome;
using test::output_of;
using test::read_text;
using test::run;
using test::steps_of;
using test::TrainProgram;
using test::without_note;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;

namespace fs = std::filesystem;

// Options that let the weights grow beyond all bounds within some steps.
const Arguments explosion{"--learning-rate", "1e3", "--schedule", "constant", "--warmup", "0",
                          "--weight-decay",  "1e3", "--clip",     "0",        "--steps",  "100"};

TEST_F(TrainProgram, StopsAtALossThatIsNoNumber) {
    output_of(train("base", {"--steps", "1"}));
    std::string weights = read_text(files_ / "base/model.safetensors");
    weights.replace(weights.size() - 2, 2, "\xc0\x7f");  // NaN in BF16
    files_.write("base/model.safetensors", weights);
    for (const Arguments& kind : {Arguments{}, Arguments{"--full"}}) {
        expect_refusal(run(finetune("out", kind)), 1,
                       {"step 1: the loss is not a number", "nothing was saved", "--learning-rate"});
        EXPECT_THAT(names_of(file("out")), IsEmpty());
    }
}

// The validation comes after the step that exploded, before the next step's loss.
TEST_F(TrainProgram, StopsAtAValidationLossThatIsNoNumber) {
    const Arguments validate{"--valid", file("text.txt"), "--valid-every", "1"};
    const Outcome outcome = run(train("out", explosion + validate));
    EXPECT_EQ(outcome.status, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err,
                ContainsRegex("freqkv-llama: step [0-9]+: the loss is .*, the validation loss not a number; "
                              "nothing was saved; .* --learning-rate"));
    EXPECT_THAT(names_of(file("out")), IsEmpty()) << "the next try may write there";
}

TEST_F(TrainProgram, KeepsTheLatestStateWhenItExplodes) {
    const Arguments options = explosion + Arguments{"--save-every", "1"};
    Outcome outcome = run(train("out", options));
    outcome.err = without_note(outcome.err);
    expect_refusal(outcome, 1, {"the loss is ", "not a number", "is kept in " + file("out")});
    const std::size_t steps = steps_of(file("out"));
    EXPECT_GE(steps, 1u);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("step " + std::to_string(steps + 1) + ": the loss is "),
                                   HasSubstr("the state of step " + std::to_string(steps) + " is kept")));
    const auto kept = content_of(file("out"));
    for (const char* const name : {"model.safetensors", "training_state.safetensors"}) {
        EXPECT_TRUE(kept.contains(name)) << name;
    }
    // Again the same, from the state.
    EXPECT_EQ(without_note(run(train("out", options + Arguments{"--resume"})).err), outcome.err);
    auto now = content_of(file("out"));
    now["loss.svg"] = kept.contains("loss.svg") ? kept.at("loss.svg") : "";
    for (const auto& [name, bytes] : kept) EXPECT_TRUE(now[name] == bytes) << name;
}

}  // namespace
}  // namespace llama
