// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "llama/program/program_fixture.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::Arguments;
using test::Outcome;
using test::ProgramTest;
using test::read_text;
using test::run_program;
using testing::MatchesRegex;

TEST_F(ProgramTest, MakeRandomCheckpointWritesBothFilesOrNone) {
    const std::string program = FREQKV_MAKE_RANDOM_CHECKPOINT;
    const auto make = [&](const Arguments& arguments) { return run_program(Arguments{program} + arguments); };
    ASSERT_EQ(make({own_ / "a.bin", own_ / "a.tok"}).status, 0);
    ASSERT_EQ(make({own_ / "b.bin", own_ / "b.tok", "--seed", "2"}).status, 0);
    EXPECT_EQ(read_text(own_ / "a.bin"), read_text(file("m.bin")));
    EXPECT_NE(read_text(own_ / "a.bin"), read_text(own_ / "b.bin"));
    EXPECT_EQ(read_text(own_ / "a.tok"), read_text(own_ / "b.tok"));
    ASSERT_EQ(make({own_ / "d.bin", own_ / "d.tok", "--dim", "32", "--heads", "4", "--kv-heads", "2"}).status, 0);
    EXPECT_LT(read_text(own_ / "d.bin").size(), read_text(own_ / "a.bin").size());
    const std::vector<std::string> before = own_.names();
    for (const Arguments& arguments :
         {Arguments{own_ / "c.bin", own_ / "missing/c.tok"}, Arguments{own_ / "missing/c.bin", own_ / "c.tok"}}) {
        const Outcome outcome = make(arguments);
        EXPECT_EQ(outcome.status, 1);
        EXPECT_THAT(outcome.err, MatchesRegex("make-random-checkpoint: .*/missing/c\\.[a-z]+: No such file.*\n"));
        EXPECT_EQ(own_.names(), before);
    }
    EXPECT_EQ(make({own_ / "c.bin", own_ / "c.tok", "--dim", "63"}).status, 1);  // 8 heads
    EXPECT_EQ(make({own_ / "c.bin", own_ / "c.tok", "--layers", "0"}).status, 2);
    EXPECT_EQ(own_.names(), before);
    EXPECT_EQ(make({own_ / "c.bin"}).status, 2);
    EXPECT_EQ(make({}).status, 2);
}

}  // namespace
}  // namespace llama
