// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "llama/program/streamed_text.hpp"

namespace llama {
namespace {

// Byte by byte; every piece that is shown must be whole characters.
std::string shown(std::string_view text) {
    StreamedText stream;
    std::string all;
    for (const char& byte : text) {
        const std::string piece = stream.add({&byte, 1});
        EXPECT_FALSE(first_invalid_utf8(piece)) << all;
        all += piece;
    }
    return all + stream.end();
}

TEST(StreamedText, HoldsBackIncompleteCharacters) {
    StreamedText stream;
    EXPECT_EQ(stream.add("a\xe4\xb8"), "a");
    EXPECT_EQ(stream.add("\x8b"
                         "b\xf0"),
              "\xe4\xb8\x8b"
              "b");
    EXPECT_EQ(stream.add("\x9f\x8e"), "");
    EXPECT_EQ(stream.add("\x89"), "\xf0\x9f\x8e\x89");
    EXPECT_EQ(stream.end(), "");
    const std::string text = "\xc3\xa4 \xe0\xa0\x80 \xed\x9f\xbf \xef\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf\n\t!";
    EXPECT_EQ(shown(text), text);
}

TEST(StreamedText, ReplacesWhatIsNoCharacter) {
    const std::string bad = "\xef\xbf\xbd";
    EXPECT_EQ(shown("a\xff"
                    "b"),
              "a" + bad + "b");
    EXPECT_EQ(shown("\xc0\x80"), bad + bad);
    EXPECT_EQ(shown("\xed\xa0\x80"), bad + bad + bad);  // a surrogate
    EXPECT_EQ(shown("\xe4\xb8"
                    "b"),
              bad + bad + "b");
    EXPECT_EQ(shown("a\xe4\xb8"), "a" + bad);  // the text ends within it
}

TEST(StreamedText, SpellsOutControlCharacters) {
    EXPECT_EQ(shown("\x1b[2J\a\r\n\t\x7f"), "\\x1b[2J\\x07\\x0d\n\t\\x7f");
    EXPECT_EQ(shown(std::string_view("\0", 1)), "\\x00");
    EXPECT_EQ(shown("\xc2\x9b"
                    "2J\xc2\xa0"),
              "\\x9b"
              "2J\xc2\xa0");
}

}  // namespace
}  // namespace llama
