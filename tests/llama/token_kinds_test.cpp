// SPDX-License-Identifier: MIT
#include "llama/tokenizers/token_kinds.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {
namespace {

// A letter for each byte.
std::string letters_of_kinds(std::string_view text) {
    std::string letters;
    for (const TokenKind kind : kinds_of_bytes(text)) {
        letters += std::string("wn1c+. ")[static_cast<std::size_t>(kind)];
    }
    return letters;
}

TEST(TokenKinds, AreThoseOfWords) {
    const std::pair<const char*, const char*> cases[] = {
        {"", ""},
        {"We saw Mina Harker in Whitby. There, Lucy slept.", "ww www nnnn nnnnnn ww nnnnnn. wwwww. nnnn wwwww."},
        {"said he, \"Then I'm off\"; I", "wwww ww. .wwww www www.. w"},
        {"A line\nwith Count\n\nDracula. O no", "w wwww\nwwww nnnnn\n\nwwwwwww. w ww"},
        {"_3 May. Bistritz._ Left Munich", ".1 nnn. wwwwwwww.. wwww nnnnnn"},
        {"in 1890, 3.14 or 1,000. 10th", "ww 1111. 1111 ww 11111. 1111"},
        {"x1 = head_dim + camelCase(y) / std::max", "cc + cccccccc + ccccccccc.w. + ccc..www"},
        {"a < b && c[2] % 5 @", "w + w ++ w+1+ + 1 +"},
        {"don't the Count's 'Yes'", "wwwww www nnnnnnn .www."},
        {"\xe2\x80\x9cWhat\xe2\x80\x9d an \xc3\x89mile \xe2\x88\x9a 2", "...wwww... ww nnnnnn +++ 1"},
        {"\xff\xc3 Z", "   w"},
    };
    for (const auto& [text, kinds] : cases) {
        std::string expected = kinds;
        for (char& c : expected) c = c == '\n' ? ' ' : c;
        EXPECT_EQ(letters_of_kinds(text), expected) << text;
    }
}

TEST(TokenKinds, OfTokensAreThoseOfTheirWords) {
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(test::tokenizer_fixture("smollm"));
    const std::vector<Token> tokens = tokenizer->encode("We met Jonathan in 1897 + x.");
    const std::vector<TokenKind> kinds = kinds_of_tokens(tokens, *tokenizer);
    ASSERT_EQ(kinds.size(), tokens.size());
    std::map<TokenKind, std::string> texts;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        texts[kinds[i]] += tokenizer->decode(i > 0 ? tokens[i - 1] : -1, tokens[i]);
    }
    for (auto& [kind, of_kind] : texts) std::erase(of_kind, ' ');
    EXPECT_EQ(texts[TokenKind::name], "Jonathan");
    EXPECT_EQ(texts[TokenKind::number], "1897");
    EXPECT_EQ(texts[TokenKind::symbol], "+");
    EXPECT_EQ(texts[TokenKind::punctuation], ".");
    EXPECT_EQ(texts[TokenKind::word], "Wemetinx");
}

}  // namespace
}  // namespace llama
