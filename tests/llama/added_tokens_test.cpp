// SPDX-License-Identifier: MIT
#include "llama/tokenizers/added_tokens.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama/model/random.hpp"
#include "llama/tokenizers/characters.hpp"

namespace llama {
namespace {

using testing::ElementsAre;

// Each match as "begin-end:id".
std::vector<std::string> shown(const std::vector<AddedTokenFinder::Match>& matches) {
    std::vector<std::string> all;
    for (const auto& match : matches) {
        all.push_back(std::to_string(match.begin) + "-" + std::to_string(match.end) + ":" + std::to_string(match.id));
    }
    return all;
}

std::vector<std::string> find(std::vector<AddedToken> tokens, std::string_view text,
                              const std::vector<TextRange>& verbatim = {}) {
    return shown(AddedTokenFinder(std::move(tokens)).find_all(text, verbatim));
}

// The rule in its simplest form.
std::vector<std::string> naive_find(const std::vector<AddedToken>& tokens, std::string_view text,
                                    const std::vector<TextRange>& verbatim) {
    std::vector<AddedTokenFinder::Match> matches;
    for (std::size_t at = 0; at < text.size();) {
        const AddedToken* longest = nullptr;
        for (const AddedToken& token : tokens) {
            if (text.substr(at, token.text.size()) != token.text) continue;
            bool forged = false;
            for (const TextRange range : verbatim) {
                forged = forged || (token.special && at < range.end && range.begin < at + token.text.size());
            }
            if (!forged && (longest == nullptr || token.text.size() > longest->text.size())) longest = &token;
        }
        if (longest != nullptr) matches.push_back({at, at + longest->text.size(), longest->id});
        at += longest != nullptr ? longest->text.size() : 1;
    }
    return shown(matches);
}

TEST(AddedTokenFinder, TakesTheLongestOfThoseThatBeginFirst) {
    EXPECT_THAT(find({{"ab", 1}, {"abcd", 2}, {"bcdef", 3}, {"c", 4}}, "xabcdefabc"),
                ElementsAre("1-5:2", "7-9:1", "9-10:4"));
    EXPECT_THAT(find({{"a", 5}, {"a", 3}}, "a"), ElementsAre("0-1:3"));
    EXPECT_THAT(find({}, "abc"), ElementsAre());
    EXPECT_THAT(find({{"a", 1}}, ""), ElementsAre());
}

TEST(AddedTokenFinder, AgreesWithTheSimplestForm) {
    Random random(5);
    for (int round = 0; round < 300; ++round) {
        std::vector<AddedToken> tokens;
        const auto word = [&](std::uint64_t most) {
            std::string text;
            // The last of them is more than 127.
            for (std::uint64_t n = 1 + random.next() % most; n > 0; --n) text += "ab\xc3"[random.next() % 3];
            return text;
        };
        for (Token id = 0; id < 12; ++id) {
            const std::string text = word(5);
            bool is_new = true;
            for (const AddedToken& token : tokens) is_new = is_new && token.text != text;
            if (is_new) tokens.push_back({text, id, random.next() % 2 == 0});
        }
        const std::string text = word(60);
        std::vector<TextRange> verbatim;
        for (std::size_t at = 0; at + 4 < text.size() && round % 3 != 0;) {
            const std::size_t begin = at + random.next() % 8;
            const std::size_t end = begin + 1 + random.next() % 8;
            if (end <= text.size()) verbatim.push_back({begin, end});
            at = end + random.next() % 3;
        }
        EXPECT_EQ(find(tokens, text, verbatim), naive_find(tokens, text, verbatim)) << '"' << text << '"';
    }
}

TEST(AddedTokenFinder, ReadsNoControlTokenInAUsersText) {
    const std::vector<AddedToken> tokens{{"<s>", 1, true}, {"<s>\n", 2, true}, {"<tool>", 3, false}};
    EXPECT_THAT(find(tokens, "<s><s><tool>", {{3, 12}}), ElementsAre("0-3:1", "6-12:3"));
    // The longer one would reach into the user's text, the shorter one does not.
    EXPECT_THAT(find(tokens, "<s>\n", {{3, 4}}), ElementsAre("0-3:1"));
    EXPECT_THAT(find(tokens, "<s>\n", {{4, 4}}), ElementsAre("0-4:2"));
    EXPECT_THAT(find(tokens, "<s>", {{2, 3}}), ElementsAre());
}

TEST(AddedTokenFinder, TakesWhiteSpaceWithThem) {
    AddedToken left{"<l>", 1};
    left.lstrip = true;
    AddedToken right{"<r>", 2};
    right.rstrip = true;
    EXPECT_THAT(find({left, right}, "a \xe3\x80\x80<l> <r> \n b"), ElementsAre("1-8:1", "9-15:2"));
    EXPECT_THAT(find({left, right}, "<r>  <l>"), ElementsAre("0-5:2", "5-8:1"));  // once
}

TEST(AddedTokenFinder, CountsWholeWordsOnlyWhereItIsAsked) {
    AddedToken word{"in", 1};
    word.single_word = true;
    EXPECT_THAT(find({word}, "in pin in\xc3\xa9 -in- _in in"), ElementsAre("0-2:1", "13-15:1", "21-23:1"));
}

TEST(AddedTokenFinder, TakesTimeInProportionToTheText) {
    // Each `a` begins a thousand tokens, and is none of them; looking at each would take minutes.
    std::vector<AddedToken> tokens;
    for (Token length = 1; length < 1020; ++length) {
        tokens.push_back({std::string(static_cast<std::size_t>(length), 'a') + "\xc3\xa9", length});
    }
    const AddedTokenFinder finder(tokens);
    EXPECT_THAT(shown(finder.find_all(std::string(4'000'000, 'a'))), ElementsAre());
    EXPECT_EQ(finder.find_all(std::string(4'000'000, 'a') + "\xc3\xa9").size(), 1u);
}

TEST(Characters, AreWhatUnicodeSays) {
    EXPECT_EQ(leading_space(" \t\n\r\v\f\xc2\x85\xc2\xa0\xe2\x80\xa9\xe3\x80\x80x"), 16u);
    EXPECT_EQ(leading_space("\xe2\x80\x8b"), 0u);  // a space of no width is none
    EXPECT_EQ(leading_space("\x1c"), 0u);
    EXPECT_EQ(trailing_space("x \xe3\x80\x80"), 1u);
    EXPECT_EQ(trailing_space(""), 0u);
    for (const char* const word : {"a", "7", "_", "\xc3\xa9", "\xe0\xa5\xaa", "\xcc\x81", "\xe2\x93\x90",
                                   "\xe2\x85\xa7", "\xe2\x80\x8d", "\xe4\xbb\x8a"}) {
        EXPECT_TRUE(begins_with_word(word)) << word;
        EXPECT_TRUE(ends_with_word(std::string(" ") + word)) << word;
    }
    for (const char* const other : {"", " a ", "-", "\xc2\xbd", "\xe2\x91\xa0", "\xf0\x9f\x98\x80"}) {
        EXPECT_FALSE(begins_with_word(other)) << other;
        EXPECT_FALSE(ends_with_word(other)) << other;
    }
}

}  // namespace
}  // namespace llama
