// SPDX-License-Identifier: MIT
#include "llama/io/visible_text.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"

namespace llama {
namespace {

using namespace std::string_view_literals;

TEST(VisibleText, ControlCharactersAndInvalidBytesAreWrittenAsNumbers) {
    EXPECT_EQ(visible("plain, 100 %", 64), "plain, 100 %");
    EXPECT_EQ(visible("a\nb\tc\x7f", 64), "a\\x0ab\\x09c\\x7f");
    EXPECT_EQ(visible("\x1b[2J\x1b]0;x\x07", 64), "\\x1b[2J\\x1b]0;x\\x07");
    EXPECT_EQ(visible("a\0b"sv, 64), "a\\x00b");
    EXPECT_EQ(visible("\xc2\x9b"
                      "31m",
                      64),
              "\\xc2\\x9b31m")
        << "C1, which terminals take for ESC [";
    EXPECT_EQ(visible("\xc2\x80\xc2\x9f\xc2\xa0", 64), "\\xc2\\x80\\xc2\\x9f\xc2\xa0")
        << "U+00A0 is no control character";
    EXPECT_EQ(visible("\xff\x9b\xc3(\xe2\x82", 64), "\\xff\\x9b\\xc3(\\xe2\\x82");
    EXPECT_EQ(visible("\xed\xa0\x80", 64), "\\xed\\xa0\\x80") << "a surrogate";
    EXPECT_EQ(visible("Gr\xc3\xbc\xc3\x9f"
                      "e \xe2\x82\xac \xf0\x9f\x98\x80",
                      64),
              "Gr\xc3\xbc\xc3\x9f"
              "e \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST(VisibleText, LongTextsAreCutBetweenCharacters) {
    EXPECT_EQ(visible(std::string(64, 'x'), 64), std::string(64, 'x'));
    EXPECT_EQ(visible(std::string(65, 'x'), 64), std::string(64, 'x') + "...");
    EXPECT_EQ(visible("ab\xe2\x82\xac", 4), "ab...");
    EXPECT_EQ(visible("", 4), "");
    EXPECT_EQ(visible(std::string(1 << 20, '\x01'), 3), "\\x01\\x01\\x01...");
    EXPECT_LT(in_quotes(std::string(1 << 20, 'x')).size(), 130u);
}

TEST(VisibleText, PathsInMessagesAreVisible) {
    EXPECT_STREQ(FileError("a\nb\xff", "why").what(), "a\\x0ab\\xff: why");
    EXPECT_LT(std::string(FileError(std::string(1 << 20, 'x'), "why").what()).size(), 5000u);
}

TEST(VisibleText, PiecesMayEndWithinCharacters) {
    const std::string text =
        "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe0\xa0\x80\xf0\x90\x80\x80\n";
    for (std::size_t size = 1; size <= text.size(); ++size) {
        VisibleText stream;
        std::string shown;
        for (std::size_t at = 0; at < text.size(); at += size) shown += stream.add(text.substr(at, size));
        EXPECT_EQ(shown, text) << "pieces of " << size;
        EXPECT_EQ(stream.finish(), "");
    }
}

TEST(VisibleText, PiecesNeverMakeACommandTogether) {
    VisibleText stream;
    EXPECT_EQ(stream.add("\x1b"), "\\x1b");
    EXPECT_EQ(stream.add("[2J"), "[2J");
    EXPECT_EQ(stream.add("\xc2"), "");
    EXPECT_EQ(stream.add("\x9b"), "\\xc2\\x9b");
    EXPECT_EQ(stream.add("\xe2\x82"), "");
    EXPECT_EQ(stream.add("x"), "\\xe2\\x82x") << "what does not go on is no character";
    EXPECT_EQ(stream.add("\xed\xa0"), "\\xed\\xa0") << "never a character, whatever follows";
    EXPECT_EQ(stream.add("\x9b"), "\\x9b");
    EXPECT_EQ(stream.add("\t\r\n"), "\t\r\n");
    EXPECT_EQ(stream.add("\b\x7f"), "\\x08\\x7f");
    EXPECT_EQ(stream.add("\xf0\x9f\x98"), "");
    EXPECT_EQ(stream.finish(), "\\xf0\\x9f\\x98");
    EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace llama
