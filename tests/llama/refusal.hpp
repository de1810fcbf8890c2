// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "llama/io/file.hpp"

namespace llama::test {

/// The message, of one line, with which read() refuses a file; "accepted" if it does not.
template <class Read>
std::string refusal_of(Read&& read) {
    try {
        read();
    } catch (const FileError& error) {
        EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
        return error.what();
    }
    return "accepted";
}

}  // namespace llama::test
