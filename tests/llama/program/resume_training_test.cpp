// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/program/train_fixture.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::changed;
using test::content_of;
using test::expect_refusal;
using test::expect_same_result;
using test::make_text;
using test::Outcome;
using test::output_of;
using test::read_text;
using test::run;
using test::signal_at;
using test::steps_of;
using test::Surroundings;
using test::training_thread_counts;
using test::TrainProgram;
using testing::ContainsRegex;

// Long enough that a signal at step 8 meets it at work.
const Arguments many_steps{"--batch", "24", "--steps", "40", "--save-every", "5"};

class Interrupted : public TrainProgram, public testing::WithParamInterface<std::string> {
protected:
    Arguments command(const std::string& out, const Arguments& options = {}) const {
        const Arguments all = changed(many_steps, options);
        if (GetParam() == "train") return train(out, all);
        return finetune(out, small_cache() + all + (GetParam() == "whole" ? Arguments{"--full"} : Arguments{}));
    }
};

TEST_P(Interrupted, GoesOnAfterBeingKilled) {
    output_of(command("uninterrupted"));
    for (const std::string& threads : {training_thread_counts[0], training_thread_counts[1]}) {
        const std::string out = "killed" + threads;
        const Arguments options{"--threads", threads};
        const Arguments resume = options + Arguments{"--resume"};
        EXPECT_EQ(run(command(out, options), signal_at("step 8 of 40", SIGKILL)).status, 128 + SIGKILL);
        EXPECT_EQ(run(command(out, resume), signal_at("step 18 of 40", SIGKILL)).status, 128 + SIGKILL);
        output_of(command(out, resume));
        expect_same_result(file(out), file("uninterrupted"));
    }
}

TEST_P(Interrupted, SavesItsStateAtASignal) {
    output_of(command("uninterrupted"));
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
        const std::string out = "signal" + std::to_string(signal);
        const Outcome outcome = run(command(out, {"--save-every", "1000"}), signal_at("step 8 of 40", signal));
        EXPECT_EQ(outcome.status, 128 + signal);
        EXPECT_THAT(outcome.err, ContainsRegex("freqkv-llama: interrupted after step [0-9]+; the same command with "
                                               "--resume goes on\n$"));
        EXPECT_EQ(outcome.out, "");
        const std::size_t steps = steps_of(file(out));
        EXPECT_GE(steps, 8u);
        EXPECT_LT(steps, 40u);
        // The rest with other threads; how often the state is saved may change, too.
        output_of(command(out, {"--resume", "--save-every", "7", "--threads", training_thread_counts[1]}));
        expect_same_result(file(out), file("uninterrupted"));
    }
}

INSTANTIATE_TEST_SUITE_P(Trainings, Interrupted, testing::Values("train", "adapter", "whole"),
                         [](const auto& named) { return named.param; });

class Stopped : public TrainProgram {
protected:
    Stopped() {
        const Outcome outcome = run(train("out", many_steps), signal_at("step 2 of 40", SIGTERM));
        EXPECT_EQ(outcome.status, 128 + SIGTERM);
        before_ = content_of(file("out"));
    }

    void expect_untouched() const { EXPECT_TRUE(content_of(file("out")) == before_) << "files were changed"; }

    std::map<std::string, std::string> before_;
};

TEST_F(Stopped, IsResumedWithTheSameOptionsOnly) {
    files_.write("other.txt", make_text(2, 120));
    const std::vector<Arguments> others{{"--steps", "41"},
                                        {"--batch", "23"},
                                        {"--learning-rate", "1e-3"},
                                        {"--schedule", "constant"},
                                        {"--warmup", "6"},
                                        {"--weight-decay", "0.2"},
                                        {"--beta1", "0.8"},
                                        {"--beta2", "0.9"},
                                        {"--clip", "2"},
                                        {"--seed", "1"},
                                        {"--type", "f32"},
                                        {"--length", "31"},
                                        {"--policy", "low-pass"},
                                        {"--dim", "64"},
                                        {"--layers", "2"},
                                        {"--heads", "2"},
                                        {"--kv-heads", "1"},
                                        {"--hidden", "47"},
                                        {"--window", "33"},
                                        {"--rope-base", "5000"},
                                        {"--tie"},
                                        {"--text", file("other.txt")}};
    for (const Arguments& other : others) {
        expect_refusal(run(changed(train("out", many_steps + Arguments{"--resume"}), other)), 2,
                       {other.front(), ": ", "training_state.safetensors was started "});
        expect_untouched();
    }
}

TEST_F(Stopped, IsResumedFromTheSameWeightsOnly) {
    const Outcome outcome = run(finetune("tuned", many_steps), signal_at("step 2 of 40", SIGTERM));
    ASSERT_EQ(outcome.status, 128 + SIGTERM);
    std::string weights = read_text(base() + "/model.safetensors");
    weights[weights.size() - 4] = static_cast<char>(weights[weights.size() - 4] ^ 1);  // the last bit of a number
    files_.write("base/model.safetensors", weights);
    expect_refusal(run(finetune("tuned", many_steps + Arguments{"--resume"})), 2,
                   {"--model: ", "training_state.safetensors was started from other weights"});
}

TEST_F(Stopped, HasOneTrainingAtATime) {
    Surroundings with;
    with.on_text = [&, tried = false](pid_t child, const Outcome& outcome) mutable {
        if (tried || outcome.err.find("step ") == std::string::npos) return;
        tried = true;
        expect_refusal(run(train("out", many_steps + Arguments{"--resume"})), 1, {"out: in use: another process"});
        expect_refusal(run(train("out", many_steps)), 1, {"out: in use: another process"});
        ::kill(child, SIGTERM);
    };
    EXPECT_EQ(run(train("out", many_steps + Arguments{"--resume"}), with).status, 128 + SIGTERM);
}

TEST_F(Stopped, IsNotWrittenOver) {
    expect_refusal(run(train("out", many_steps)), 1, {"out: holds a training that was not finished; --resume"});
    expect_untouched();
}

TEST_F(Stopped, KeepsItsFilesWhenItCannotGoOn) {
    const Arguments resume = many_steps + Arguments{"--resume"};
    files_.write("empty.txt", "");
    files_.write("latin.txt", "caf\xe9");
    expect_refusal(run(train("out", resume + Arguments{"--text", file("empty.txt")})), 1, {"empty.txt: the file is"});
    expect_untouched();
    expect_refusal(run(train("out", resume + Arguments{"--text", file("latin.txt")})), 1, {"latin.txt: not UTF-8"});
    expect_untouched();
    std::string state = before_["training_state.safetensors"];
    state.pop_back();
    files_.write("out/training_state.safetensors", state);
    before_ = content_of(file("out"));
    expect_refusal(run(train("out", resume)), 1, {"training_state.safetensors: "});
    expect_untouched();
}

}  // namespace
}  // namespace llama
