// SPDX-License-Identifier: MIT
#include "llama/tokenizers/bpe.hpp"

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
BpeParts bytes_only() {
    BpeParts parts;
    for (int byte = 0; byte < 256; ++byte) parts.tokens.push_back(spelled(byte));
    return parts;
}

void add_merge(BpeParts& parts, const std::string& left, const std::string& right) {
    parts.merges.emplace_back(left, right);
    parts.tokens.push_back(left + right);
}

// The same rules in the simplest form: look at all pairs, join the best, begin again. Texts of ASCII letters.
std::vector<std::string> naive_encode(const BpeParts& parts, const std::string& text) {
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

std::string refusal(BpeParts parts) {
    try {
        const Bpe tokenizer(std::move(parts), "some.json");
    } catch (const FileError& error) {
        EXPECT_THAT(error.what(), testing::StartsWith("some.json: "));
        return error.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
}

TEST(Bpe, JoinsInTheOrderOfTheMerges) {
    BpeParts parts = bytes_only();
    add_merge(parts, "b", "c");   // 256
    add_merge(parts, "a", "b");   // 257
    add_merge(parts, "a", "a");   // 258
    add_merge(parts, "a", "bc");  // 259
    const Bpe tokenizer(parts, "");
    EXPECT_THAT(tokenizer.encode("abc"), ElementsAre(259));
    EXPECT_THAT(tokenizer.encode("abab"), ElementsAre(257, 257));
    EXPECT_THAT(tokenizer.encode("aaa"), ElementsAre(258, 'a'));
    EXPECT_THAT(tokenizer.encode(""), ElementsAre());
    EXPECT_EQ(tokenizer.vocabulary(), 260);
}

TEST(Bpe, AgreesWithTheSimplestForm) {
    Random random(3);
    for (int vocabulary = 0; vocabulary < 30; ++vocabulary) {
        // Few letters, so that pairs are frequent.
        BpeParts parts = bytes_only();
        std::vector<std::string> made{"a", "b", "c"};
        for (int i = 0; i < 40; ++i) {
            const std::string left = made[random.next() % made.size()];
            const std::string right = made[random.next() % made.size()];
            if (std::find(parts.merges.begin(), parts.merges.end(), std::pair(left, right)) != parts.merges.end())
                continue;
            add_merge(parts, left, right);
            made.push_back(left + right);
        }
        const Bpe tokenizer(parts, "");
        for (const std::size_t length : {1u, 2u, 3u, 5u, 17u, 60u}) {
            std::string text;
            while (text.size() < length) text += "abc"[random.next() % 3];
            std::vector<std::string> pieces;
            for (const Token token : tokenizer.encode(text)) pieces.emplace_back(tokenizer.decode(-1, token));
            EXPECT_EQ(pieces, naive_encode(parts, text)) << '"' << text << '"';
        }
    }
}

TEST(Bpe, EncodesALongPieceInTime) {
    // A quadratic algorithm would take minutes for it.
    BpeParts parts = bytes_only();
    parts.splits = {{pre_token_patterns::llama3}};
    for (std::string half = "a"; half.size() < 64; half += half) add_merge(parts, half, half);
    const Bpe tokenizer(parts, "");
    for (const std::string& text : {std::string(100'000, 'a'), std::string(100'000, ' '), std::string(100'000, '\n'),
                                    std::string(100'000, '!'), std::string(100'000, ' ') + "a"}) {
        EXPECT_EQ(test::decode_all(tokenizer, tokenizer.encode(text)), text) << text.substr(0, 1);
    }
}

TEST(Bpe, KnowsEveryByte) {
    const Bpe tokenizer(bytes_only(), "");
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

TEST(Bpe, TakesAWholePieceWithIgnoreMerges) {
    BpeParts parts = bytes_only();
    add_merge(parts, "a", "b");
    parts.tokens.push_back("abc");  // 257; no merge leads to it
    parts.splits = {{pre_token_patterns::llama3}};
    EXPECT_THAT(Bpe(parts, "").encode("abc!abcc"), ElementsAre(256, 'c', '!', 256, 'c', 'c'));
    parts.ignore_merges = true;
    EXPECT_THAT(Bpe(parts, "").encode("abc!"), ElementsAre(257, '!'));
    EXPECT_THAT(Bpe(parts, "").encode("abcc"), ElementsAre(256, 'c', 'c'));
}

TEST(Bpe, FindsAddedTokensBeforeAnythingElse) {
    BpeParts parts = bytes_only();
    add_merge(parts, "<", "x");
    parts.added = {{"<x>", 257, true, false}, {"<x>>", 258, false, false}, {"x", 259, false, true}};
    const Bpe tokenizer(parts, "");
    // The longest of those that begin first; the last is looked for in what the others left.
    EXPECT_THAT(tokenizer.encode("<x>>><x<x>"), ElementsAre(258, '>', '<', 259, 257));
    EXPECT_EQ(tokenizer.decode(-1, 257), "");  // a control token
    EXPECT_EQ(tokenizer.decode(-1, 258), "<x>>");
}

TEST(Bpe, LeavesOutBytesWithoutATokenOrTakesTheUnknownOne) {
    BpeParts parts = bytes_only();
    parts.tokens[4] = "";
    parts.tokens[0xC0] = "";
    parts.tokens.push_back("<unk>");  // 256
    parts.splits = {{pre_token_patterns::gpt2}};
    EXPECT_THAT(Bpe(parts, "").encode("a\x04"
                                      "b"),
                ElementsAre('a', 'b'));
    EXPECT_THAT(Bpe(parts, "").encode("\x04"), ElementsAre());
    parts.unknown = 256;
    EXPECT_THAT(Bpe(parts, "").encode("a\x04\x04\x01\x04"
                                      "b"),
                ElementsAre('a', 256, 256, 1, 256, 'b'));
    parts.fuse_unknown = true;
    EXPECT_THAT(Bpe(parts, "").encode("a\x04\x04\x01\x04"
                                      "b"),
                ElementsAre('a', 256, 1, 256, 'b'));
}

// Characters a, b, c and the mark of spaces; merges whose texts have no space but at their beginning.
BpeParts words() {
    BpeParts parts;
    parts.byte_level = false;
    parts.mark_spaces = true;
    parts.byte_fallback = true;
    const std::string mark = "\xe2\x96\x81";
    parts.tokens = {"a", "b", "c", mark, "\n"};
    for (const char* const byte : {"<0xC3>", "<0xA9>"}) parts.tokens.emplace_back(byte);
    for (const auto& [left, right] : {std::pair<std::string, std::string>{"a", "b"},
                                      {mark, "ab"},
                                      {"c", "c"},
                                      {"cc", "a"},
                                      {mark + "ab", "cca"},
                                      {mark, "cc"}}) {
        add_merge(parts, left, right);
    }
    return parts;
}

TEST(Bpe, CutsLongTextsWhereNothingChanges) {
    BpeParts parts = words();
    const Bpe in_parts(parts, "");
    parts.ignore_merges = true;  // with this it may not; none of the texts is a token
    const Bpe as_a_whole(parts, "");
    Random random(7);
    std::string text;
    while (text.size() < 400'000)
        text += random.next() % 50 == 0 ? "\xc3\xa9" : std::string(1, "aabbcc \n"[random.next() % 8]);
    EXPECT_EQ(in_parts.encode(text) == as_a_whole.encode(text), true);
    const std::string without(200'000, 'c');
    EXPECT_EQ(in_parts.encode(without) == as_a_whole.encode(without), true);
    EXPECT_TRUE(in_parts.lines_are_independent());
    EXPECT_FALSE(as_a_whole.lines_are_independent());
}

TEST(Bpe, PutsASpaceBeforeTheFirstPartOrBeforeAll) {
    BpeParts parts = words();
    parts.added = {{"<s>", 20, true}};
    const Token mark = 3;
    EXPECT_THAT(Bpe(parts, "").encode("c<s>c"), ElementsAre(2, 20, 2));
    parts.prefix_space = PrefixSpace::first;
    EXPECT_THAT(Bpe(parts, "").encode("c<s>c"), ElementsAre(mark, 2, 20, 2));
    EXPECT_THAT(Bpe(parts, "").encode("<s>c"), ElementsAre(20, 2));
    EXPECT_THAT(Bpe(parts, "").encode(" c"), ElementsAre(mark, 2));
    parts.prefix_space = PrefixSpace::always;
    EXPECT_THAT(Bpe(parts, "").encode("c<s>c<s> c"), ElementsAre(mark, 2, 20, mark, 2, 20, mark, 2));
}

TEST(Bpe, ReadsNoControlTokensInAUsersText) {
    BpeParts parts = bytes_only();
    parts.added = {{"<s>", 256, true, false}, {"<u>", 257, true, true}, {"<t>", 258, false, false}};
    const Bpe tokenizer(parts, "");
    EXPECT_THAT(tokenizer.encode("<s><u><t>"), ElementsAre(256, 257, 258));
    EXPECT_THAT(tokenizer.encode("<s><u><t>", SpecialTokens::plain), ElementsAre('<', 's', '>', '<', 'u', '>', 258));
    const std::vector<TextRange> verbatim{{3, 6}};
    EXPECT_THAT(tokenizer.encode("<s><s><s>", verbatim), ElementsAre(256, '<', 's', '>', 256));
    EXPECT_THAT(tokenizer.encode("<u><u>", std::vector<TextRange>{{3, 6}}).size(), 6u);  // all that is beside it
}

TEST(Bpe, RefusesPartsThatDoNotFit) {
    BpeParts parts = bytes_only();
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
    parts.splits = {{"(a"}};
    EXPECT_THAT(refusal(parts), HasSubstr(R"(the pattern "(a" is of no use: missing closing parenthesis)"));
    parts.splits = {{"a*"}};
    EXPECT_THAT(refusal(parts), HasSubstr("can match the empty text"));
    parts.splits = {{"\\w+"}};
    EXPECT_THAT(refusal(parts), HasSubstr("the escape \\w is not supported"));
    parts.splits = {{"[a&&b]"}};
    EXPECT_THAT(refusal(parts), HasSubstr("&&"));
    parts.splits = {{std::string(5000, 'a')}};
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
    // Exponential, cubic and quadratic in the text, each within one match or over many.
    for (const char* const pattern :
         {"(?:(?:a+)+)+[bc]", "(?:(?=a*a*b)a)+|b", "a(?=[\\s\\S]*x)|a", "a(?=[\\s\\S]*+x)|a", "a+a+a+c|\n"}) {
        const std::string text(200'000, 'a');
        EXPECT_THROW(RegexSplitter(pattern).split(text, scratch, pieces), std::runtime_error) << pattern;
    }
}

TEST(RegexSplitter, GoesThroughAnyTextByTheModelsOwnPatterns) {
    namespace patterns = pre_token_patterns;
    RegexScratch scratch;
    for (const char* const pattern : {patterns::gpt2, patterns::llama3, patterns::qwen2, patterns::tekken,
                                      patterns::gpt4o, patterns::punctuation, patterns::digit, patterns::digits}) {
        const RegexSplitter splitter{std::string(pattern)};
        for (const char* const unit : {"a",
                                       "A",
                                       "aA",
                                       "Aa",
                                       " ",
                                       "\n",
                                       " \n",
                                       "\n ",
                                       "\r",
                                       "'",
                                       "'s",
                                       "1",
                                       "!",
                                       "!\n",
                                       "/",
                                       "\xcc\x81",
                                       "\xe4\xbb\x8a",
                                       "\xc7\x85",
                                       "\xe2\x80\x83",
                                       "\t",
                                       " a",
                                       "\xf0\x9f\x98\x80"}) {
            std::string text;
            while (text.size() < 300'000) text += unit;
            for (const std::string& whole : {text, text + "x", "x" + text}) {
                std::vector<std::string_view> pieces;
                splitter.split(whole, scratch, pieces);
                std::string joined;
                for (const std::string_view piece : pieces) joined += piece;
                EXPECT_EQ(joined == whole, true) << pattern << " \"" << unit << '"';
            }
        }
    }
}

TEST(RegexSplitter, KnowsTheCharactersOfTheTokenizersLibrary) {
    RegexScratch scratch;
    std::vector<std::string_view> pieces;
    // A letter of Unicode 15, a digit and a letter of Unicode 16, a sign that is newer than both, an ideograph of 15.
    const std::string text = "a\xf0\x91\xbc\x84 \xf0\x96\x84\xb0\xe1\xb2\x89!\xf0\x9e\xa0\x80\xf0\xb1\x8d\x90";
    RegexSplitter(std::string(pre_token_patterns::gpt2)).split(text, scratch, pieces);
    EXPECT_THAT(pieces, ElementsAre("a\xf0\x91\xbc\x84", " \xf0\x96\x84\xb0", "\xe1\xb2\x89", "!\xf0\x9e\xa0\x80",
                                    "\xf0\xb1\x8d\x90"));
}

TEST(RegexSplitter, RefusesVerbsAndMatchesOfNothing) {
    for (const char* const pattern : {"(?:(*ACCEPT)|x)a", "(*NO_JIT)a", "a(*COMMIT)"}) {
        EXPECT_THROW(RegexSplitter{std::string(pattern)}, std::invalid_argument) << pattern;
    }
    EXPECT_NO_THROW(RegexSplitter(std::string("\\(*a")));
    EXPECT_THROW(RegexSplitter(TextSplit{"", true}), std::invalid_argument);
}

TEST(RegexSplitter, DoesWithMatchesWhatTheFileSays) {
    const auto split = [](SplitBehavior behavior, bool invert, std::string_view text) {
        RegexScratch scratch;
        std::vector<std::string_view> pieces;
        RegexSplitter(TextSplit{"-", true, behavior, invert}).split(text, scratch, pieces);
        return pieces;
    };
    // What the tokenizers library gives.
    const std::string_view text = "a-b--c-";
    EXPECT_THAT(split(SplitBehavior::isolated, false, text), ElementsAre("a", "-", "b", "-", "-", "c", "-"));
    EXPECT_THAT(split(SplitBehavior::removed, false, text), ElementsAre("a", "b", "c"));
    EXPECT_THAT(split(SplitBehavior::removed, true, text), ElementsAre("-", "-", "-", "-"));
    EXPECT_THAT(split(SplitBehavior::contiguous, false, text), ElementsAre("a", "-", "b", "--", "c", "-"));
    EXPECT_THAT(split(SplitBehavior::merged_with_previous, false, text), ElementsAre("a-", "b-", "-", "c-"));
    EXPECT_THAT(split(SplitBehavior::merged_with_next, false, text), ElementsAre("a", "-b", "-", "-c", "-"));
    EXPECT_THAT(split(SplitBehavior::merged_with_previous, true, text), ElementsAre("a", "-b", "-", "-c", "-"));
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
