// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/program/train_fixture.hpp"

// Trainings that are killed at one of the operations by which they write files.
namespace llama {
namespace {

using test::Arguments;
using test::expect_same_result;
using test::names_of;
using test::Outcome;
using test::output_of;
using test::run;
using test::run_program;
using test::TrainProgram;
using testing::AnyOf;
using testing::HasSubstr;

namespace fs = std::filesystem;

const std::string strace = "/usr/bin/strace";

class Killed : public TrainProgram, public testing::WithParamInterface<std::string> {
protected:
    // Two steps, saved after each, of as small a model as there is.
    Arguments command(const std::string& out) const {
        const Arguments small{"--steps", "2", "--save-every", "1", "--batch", "1", "--length", "8"};
        return GetParam() == "train" ? train(out, small) : finetune(out, small);
    }

    // Ends `program` instead of its call number `when` of `call`.
    static Outcome run_killed(const std::string& call, int when, const Arguments& program) {
        const std::string inject = "inject=" + call + ":signal=KILL:when=" + std::to_string(when);
        return run_program(
            Arguments{strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", inject, FREQKV_LLAMA} +
            program);
    }
};

TEST_P(Killed, GoesOnFromAnyPoint) {
    if (!fs::exists(strace)) GTEST_SKIP() << "no strace here";
    output_of(command("whole"));
    if (run_killed("fsync", 1000, command("traced")).status != 0) GTEST_SKIP() << "no process may be traced here";
    expect_same_result(file("traced"), file("whole"));

    int kills = 0;
    for (const std::string call : {"mkdir", "rename", "fsync", "unlink"}) {
        for (int when = 1;; ++when) {
            const std::string out = call + std::to_string(when);
            SCOPED_TRACE(out);
            const Outcome killed = run_killed(call, when, command(out));
            if (killed.status == 0) break;  // there are no more such calls
            ASSERT_EQ(killed.status, 128 + SIGKILL) << killed.err;
            ++kills;
            // What a script would do that does not know how far it came.
            Outcome again = run(command(out));
            if (again.status != 0) {
                EXPECT_THAT(again.err, AnyOf(HasSubstr("holds a training that was not finished; --resume goes on"),
                                             HasSubstr("holds a training that is finished")));
                again = run(command(out) + Arguments{"--resume"});
            }
            ASSERT_EQ(again.status, 0) << again.err;
            expect_same_result(file(out), file("whole"));
            fs::remove_all(file(out));
        }
    }
    EXPECT_GT(kills, 30);
}

INSTANTIATE_TEST_SUITE_P(Trainings, Killed, testing::Values("train", "finetune"),
                         [](const auto& named) { return named.param; });

}  // namespace
}  // namespace llama
