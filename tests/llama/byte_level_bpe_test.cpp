// SPDX-License-Identifier: MIT
#include "llama/tokenizers/byte_level_bpe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/model/random.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/nfc.hpp"
#include "llama/tokenizers/pre_token_patterns.hpp"

namespace llama {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The character that stands for a byte: a printable one for itself, the others from U+0100 on.
std::string spelled(int byte) {
    const auto is_printable = [](int b) { return (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD); };
    int character = byte;
    if (!is_printable(byte)) {
        character = 0x100;
        for (int b = 0; b < byte; ++b) character += is_printable(b) ? 0 : 1;
    }
    if (character < 0x80) return {static_cast<char>(character)};
    return {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
}

// All bytes, byte b as token b.
ByteLevelBpeParts bytes_only() {
    ByteLevelBpeParts parts;
    for (int byte = 0; byte < 256; ++byte) parts.tokens.push_back(spelled(byte));
    return parts;
}

void add_merge(ByteLevelBpeParts& parts, const std::string& left, const std::string& right) {
    parts.merges.emplace_back(left, right);
    parts.tokens.push_back(left + right);
}

// The same rules in the simplest form: look at all pairs, join the best, begin again. Texts of ASCII letters.
std::vector<std::string> naive_encode(const ByteLevelBpeParts& parts, const std::string& text) {
    std::vector<std::string> tokens;
    for (const char c : text) tokens.emplace_back(1, c);
    while (true) {
        std::size_t best = parts.merges.size();
        std::size_t where = 0;
        for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
            const auto merge = std::find(parts.merges.begin(), parts.merges.end(), std::pair(tokens[i], tokens[i + 1]));
            const auto rank = static_cast<std::size_t>(merge - parts.merges.begin());
            if (rank >= best) continue;
            best = rank;
            where = i;
        }
        if (best == parts.merges.size()) return tokens;
        tokens[where] += tokens[where + 1];
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(where) + 1);
    }
}

std::string refusal(ByteLevelBpeParts parts) {
    try {
        const ByteLevelBpe tokenizer(std::move(parts), "some.json");
    } catch (const FileError& error) {
        EXPECT_THAT(error.what(), testing::StartsWith("some.json: "));
        return error.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
}

TEST(ByteLevelBpe, JoinsInTheOrderOfTheMerges) {
    ByteLevelBpeParts parts = bytes_only();
    add_merge(parts, "b", "c");   // 256
    add_merge(parts, "a", "b");   // 257
    add_merge(parts, "a", "a");   // 258
    add_merge(parts, "a", "bc");  // 259
    const ByteLevelBpe tokenizer(parts, "");
    EXPECT_THAT(tokenizer.encode("abc"), ElementsAre(259));
    EXPECT_THAT(tokenizer.encode("abab"), ElementsAre(257, 257));
    EXPECT_THAT(tokenizer.encode("aaa"), ElementsAre(258, 'a'));
    EXPECT_THAT(tokenizer.encode(""), ElementsAre());
    EXPECT_EQ(tokenizer.vocabulary(), 260);
}

TEST(ByteLevelBpe, AgreesWithTheSimplestForm) {
    Random random(3);
    for (int vocabulary = 0; vocabulary < 30; ++vocabulary) {
        // Few letters, so that pairs are frequent.
        ByteLevelBpeParts parts = bytes_only();
        std::vector<std::string> made{"a", "b", "c"};
        for (int i = 0; i < 40; ++i) {
            const std::string left = made[random.next() % made.size()];
            const std::string right = made[random.next() % made.size()];
            if (std::find(parts.merges.begin(), parts.merges.end(), std::pair(left, right)) != parts.merges.end())
                continue;
            add_merge(parts, left, right);
            made.push_back(left + right);
        }
        const ByteLevelBpe tokenizer(parts, "");
        for (const std::size_t length : {1u, 2u, 3u, 5u, 17u, 60u}) {
            std::string text;
            while (text.size() < length) text += "abc"[random.next() % 3];
            std::vector<std::string> pieces;
            for (const Token token : tokenizer.encode(text)) pieces.emplace_back(tokenizer.decode(-1, token));
            EXPECT_EQ(pieces, naive_encode(parts, text)) << '"' << text << '"';
        }
    }
}

TEST(ByteLevelBpe, EncodesALongPieceInTime) {
    // A quadratic algorithm would take minutes for it.
    ByteLevelBpeParts parts = bytes_only();
    parts.patterns = {pre_token_patterns::llama3};
    for (std::string half = "a"; half.size() < 64; half += half) add_merge(parts, half, half);
    const ByteLevelBpe tokenizer(parts, "");
    for (const std::string& text : {std::string(100'000, 'a'), std::string(100'000, ' '), std::string(100'000, '\n'),
                                    std::string(100'000, '!'), std::string(100'000, ' ') + "a"}) {
        EXPECT_EQ(test::decode_all(tokenizer, tokenizer.encode(text)), text) << text.substr(0, 1);
    }
}

TEST(ByteLevelBpe, KnowsEveryByte) {
    const ByteLevelBpe tokenizer(bytes_only(), "");
    std::string text;
    for (char c = 1; c != 0 && c < 0x7F; ++c) text += c;
    text += std::string("\0\x7F", 2) + "\xc2\x80\xc3\xbf\xc2\xad\xf4\x8f\xbf\xbf";
    std::vector<Token> bytes;
    for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
    EXPECT_EQ(tokenizer.encode(text), bytes);
    EXPECT_EQ(test::decode_all(tokenizer, bytes), text);
    EXPECT_EQ(tokenizer.decode(-1, 0xC0), "\xc0");
    EXPECT_EQ(tokenizer.decode(-1, -1), "");  // of a model whose vocabulary is padded
    EXPECT_EQ(tokenizer.decode(-1, 256), "");
    EXPECT_THROW(tokenizer.encode("a\xff"), std::runtime_error);
}

TEST(ByteLevelBpe, TakesAWholePieceWithIgnoreMerges) {
    ByteLevelBpeParts parts = bytes_only();
    add_merge(parts, "a", "b");
    parts.tokens.push_back("abc");  // 257; no merge leads to it
    parts.patterns = {pre_token_patterns::llama3};
    EXPECT_THAT(ByteLevelBpe(parts, "").encode("abc!abcc"), ElementsAre(256, 'c', '!', 256, 'c', 'c'));
    parts.ignore_merges = true;
    EXPECT_THAT(ByteLevelBpe(parts, "").encode("abc!"), ElementsAre(257, '!'));
    EXPECT_THAT(ByteLevelBpe(parts, "").encode("abcc"), ElementsAre(256, 'c', 'c'));
}

TEST(ByteLevelBpe, FindsAddedTokensBeforeAnythingElse) {
    ByteLevelBpeParts parts = bytes_only();
    add_merge(parts, "<", "x");
    parts.added = {{"<x>", 257, true, false}, {"<x>>", 258, false, false}, {"x", 259, false, true}};
    const ByteLevelBpe tokenizer(parts, "");
    // The longest of those that begin first; the last is looked for in what the others left.
    EXPECT_THAT(tokenizer.encode("<x>>><x<x>"), ElementsAre(258, '>', '<', 259, 257));
    EXPECT_EQ(tokenizer.decode(-1, 257), "");  // a control token
    EXPECT_EQ(tokenizer.decode(-1, 258), "<x>>");
}

TEST(ByteLevelBpe, RefusesPartsThatDoNotFit) {
    ByteLevelBpeParts parts = bytes_only();
    parts.tokens[65] = "";
    EXPECT_THAT(refusal(parts), HasSubstr("no token for byte 65"));
    parts = bytes_only();
    parts.merges.emplace_back("a", "b\n");
    EXPECT_THAT(refusal(parts), HasSubstr(R"(merge 0 has "b\x0a", which is not in the vocabulary)"));
    parts.merges[0].second = "b";
    EXPECT_THAT(refusal(parts), HasSubstr(R"(merge 0 has "ab")"));
    parts = bytes_only();
    parts.added = {{"", 300}};
    EXPECT_THAT(refusal(parts), HasSubstr("0 bytes, must have 1 to 1024"));
    parts.added = {{"<x>", 65}};
    EXPECT_THAT(refusal(parts), HasSubstr(R"("<x>" has the id 65, which is that of "A")"));
    parts = bytes_only();
    parts.patterns = {"(a"};
    EXPECT_THAT(refusal(parts), HasSubstr(R"(the pattern "(a" is of no use: missing closing parenthesis)"));
    parts.patterns = {"a*"};
    EXPECT_THAT(refusal(parts), HasSubstr("can match the empty text"));
    parts.patterns = {"\\w+"};
    EXPECT_THAT(refusal(parts), HasSubstr("the escape \\w is not supported"));
    parts.patterns = {"[a&&b]"};
    EXPECT_THAT(refusal(parts), HasSubstr("&&"));
    parts.patterns = {std::string(5000, 'a')};
    EXPECT_THAT(refusal(parts), HasSubstr("5000 bytes; at most 4096"));
}

TEST(RegexSplitter, CutsAtMatchesAndKeepsWhatLiesBetween) {
    RegexScratch scratch;
    std::vector<std::string_view> pieces;
    RegexSplitter("\\p{N}+").split("ab12c3", scratch, pieces);
    EXPECT_THAT(pieces, ElementsAre("ab", "12", "c", "3"));
    pieces.clear();
    RegexSplitter("\\s+").split("a\xc2\x85\xe3\x80\x80 b\xe1\xa0\x8e", scratch, pieces);
    EXPECT_THAT(pieces, ElementsAre("a", "\xc2\x85\xe3\x80\x80 ", "b\xe1\xa0\x8e"));  // U+180E is no white space
    pieces.clear();
    RegexSplitter("x").split("", scratch, pieces);
    EXPECT_THAT(pieces, ElementsAre());
}

TEST(RegexSplitter, GivesUpInsteadOfHanging) {
    RegexScratch scratch;
    std::vector<std::string_view> pieces;
    const std::string text(5000, 'a');
    EXPECT_THROW(RegexSplitter("(?:(?:a+)+)+[bc]").split(text, scratch, pieces), std::runtime_error);
}

TEST(Nfc, ComposesAndSortsMarks) {
    EXPECT_EQ(to_nfc(""), "");
    EXPECT_EQ(to_nfc("plain"), "plain");
    EXPECT_EQ(to_nfc("e\xcc\x81"), "\xc3\xa9");
    EXPECT_EQ(to_nfc("\xe2\x84\xab"), "\xc3\x85");                              // the sign of the angstrom
    EXPECT_EQ(to_nfc("q\xcc\x87\xcc\xa3"), "q\xcc\xa3\xcc\x87");                // a mark below goes first
    EXPECT_EQ(to_nfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"), "\xea\xb0\x81");  // a syllable of three letters
    EXPECT_EQ(to_nfc("\xef\xac\x81 \xc2\xbd"), "\xef\xac\x81 \xc2\xbd");        // only canonical equivalents
    EXPECT_EQ(to_nfc(std::string("\0\xcc\x81", 3)), std::string("\0\xcc\x81", 3));
    EXPECT_THROW(to_nfc("\xff"), std::runtime_error);
}

TEST(Nfc, SortsManyMarksInTime) {
    // An insertion sort would take an hour for them.
    std::string below, above;
    for (int i = 0; i < 500'000; ++i) {
        below += "\xcc\xa3";
        above += "\xcc\x87";
    }
    EXPECT_EQ(to_nfc("q" + above + below), "q" + below + above);
}

}  // namespace
}  // namespace llama
