// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "llama/program/run_program.hpp"

// Runs of freqkv-llama, which the test's definition FREQKV_LLAMA names.
namespace llama::test {

struct Arguments : std::vector<std::string> {
    using std::vector<std::string>::vector;

    friend Arguments operator+(Arguments a, const Arguments& b) {
        a.insert(a.end(), b.begin(), b.end());
        return a;
    }
};

inline Outcome run(const Arguments& arguments, const Surroundings& with = {}) {
    return run_program(Arguments{FREQKV_LLAMA} + arguments, with);
}

/// The text of a run that must succeed.
inline std::string output_of(const Arguments& arguments, const Surroundings& with = {}) {
    const Outcome outcome = run(arguments, with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.out;
}

/// A failed run prints one line, and nothing else.
inline void expect_refusal(const Outcome& outcome, int status, const std::vector<std::string>& words) {
    EXPECT_EQ(outcome.status, status) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_THAT(outcome.err, testing::StartsWith("freqkv-llama: "));
    EXPECT_THAT(outcome.err, testing::EndsWith("\n"));
    for (const std::string& word : words) EXPECT_THAT(outcome.err, testing::HasSubstr(word));
}

}  // namespace llama::test
