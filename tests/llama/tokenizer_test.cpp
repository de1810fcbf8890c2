// SPDX-License-Identifier: MIT
#include "llama/tokenizers/llama2c_tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/formats/random_checkpoint.hpp"
#include "llama/io/utf8.hpp"
#include "llama/model/random.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

struct Piece {
    float score;
    std::string text;
};

std::string tokenizer_bytes(const std::vector<Piece>& pieces) {
    std::string bytes;
    detail::append_bytes(bytes, std::int32_t{16});
    for (const Piece& piece : pieces) {
        detail::append_bytes(bytes, piece.score);
        detail::append_bytes(bytes, static_cast<std::int32_t>(piece.text.size()));
        bytes += piece.text;
    }
    return bytes;
}

// Control and byte tokens, then what the test adds from id 259 on.
std::vector<Piece> with_bytes(const std::vector<Piece>& more) {
    std::vector<Piece> pieces{{0, "<unk>"}, {0, "\n<s>\n"}, {0, "\n</s>\n"}};
    for (int byte = 0; byte < 256; ++byte) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
        pieces.push_back({0, text});
    }
    pieces.insert(pieces.end(), more.begin(), more.end());
    return pieces;
}

// The same rules in the simplest form: look at all pairs, join the best, begin again.
std::vector<Token> naive_encode(const std::vector<Piece>& pieces, const std::string& text) {
    const auto find = [&](const std::string& piece) {
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            if (pieces[i].text == piece) return static_cast<Token>(i);
        }
        return Token{-1};
    };
    const auto text_of = [&](Token token) { return pieces[static_cast<std::size_t>(token)].text; };
    std::vector<Token> tokens;
    const std::string spaced = text.empty() ? text : " " + text;
    for (std::size_t at = 0; at < spaced.size();) {
        const std::size_t length = utf8_length(std::string_view(spaced).substr(at));
        const std::string character = spaced.substr(at, length);
        if (find(character) >= 0) {
            tokens.push_back(find(character));
        } else {
            for (const char c : character) tokens.push_back(static_cast<unsigned char>(c) + 3);
        }
        at += length;
    }
    while (true) {
        float best = -std::numeric_limits<float>::infinity();
        std::size_t where = tokens.size();
        for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
            const Token joined = find(text_of(tokens[i]) + text_of(tokens[i + 1]));
            if (joined >= 0 && pieces[static_cast<std::size_t>(joined)].score > best) {
                best = pieces[static_cast<std::size_t>(joined)].score;
                where = i;
            }
        }
        if (where == tokens.size()) return tokens;
        tokens[where] = find(text_of(tokens[where]) + text_of(tokens[where + 1]));
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(where) + 1);
    }
}

std::string decode_all(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
    std::string text;
    Token previous = tokenizer.begin_of_text();
    for (const Token token : tokens) {
        text += tokenizer.decode(previous, token);
        previous = token;
    }
    return text;
}

class Llama2cTokenizerTest : public testing::Test {
protected:
    Llama2cTokenizer make(const std::vector<Piece>& pieces) const {
        return Llama2cTokenizer(directory_.write("t.bin", tokenizer_bytes(pieces)), static_cast<Index>(pieces.size()));
    }

    std::string refusal(const std::string& content, Index vocabulary) const {
        const std::string path = directory_.write("t.bin", content);
        try {
            const Llama2cTokenizer tokenizer(path, vocabulary);
        } catch (const FileError& error) {
            EXPECT_THAT(error.what(), testing::StartsWith(path + ": "));
            return error.what();
        }
        ADD_FAILURE() << "accepted";
        return {};
    }

    TemporaryDirectory directory_;
};

TEST_F(Llama2cTokenizerTest, JoinsTheBestPairFirst) {
    // "abc": ab (score 1) wins over bc (score 0), and abc can then not be reached through it.
    const Llama2cTokenizer one = make(with_bytes({{0, "a"}, {0, "b"}, {0, "c"}, {1, "ab"}, {0, "bc"}, {9, "abc"}}));
    EXPECT_THAT(one.encode("abc"), ElementsAre(' ' + 3, 264));
    // Without "abc" the c stays alone; of two equal pairs the left one is joined.
    const Llama2cTokenizer two = make(with_bytes({{0, "a"}, {0, " "}, {5, "aa"}}));
    EXPECT_THAT(two.encode("aaa"), ElementsAre(260, 261, 259));
}

TEST_F(Llama2cTokenizerTest, PutsASpaceBeforeTheText) {
    const Llama2cTokenizer tokenizer = make(with_bytes({{0, " "}, {0, "a"}, {1, " a"}}));
    EXPECT_THAT(tokenizer.encode("a"), ElementsAre(261));
    EXPECT_THAT(tokenizer.encode(" a"), ElementsAre(259, 261));
    EXPECT_THAT(tokenizer.encode(""), ElementsAre());
}

TEST_F(Llama2cTokenizerTest, FallsBackToBytes) {
    const Llama2cTokenizer tokenizer = make(with_bytes({{0, " "}, {0, "\xc3\xa9"}}));
    EXPECT_THAT(tokenizer.encode("\xc3\xa9"), ElementsAre(259, 260));                 // one character
    EXPECT_THAT(tokenizer.encode("\xc3\xa8"), ElementsAre(259, 0xc3 + 3, 0xa8 + 3));  // its bytes
    EXPECT_THAT(tokenizer.encode(std::string("\0", 1)), ElementsAre(259, 3));         // NUL is a byte as others
    EXPECT_THAT(tokenizer.encode("\xf0\x9f\x98\x80"), ElementsAre(259, 0xf3, 0xa2, 0x9b, 0x83));
}

TEST_F(Llama2cTokenizerTest, SaysWhichByteItHasNoTokenFor) {
    const Llama2cTokenizer tokenizer = make({{0, "<unk>"}, {0, "\n<s>\n"}, {0, "\n</s>\n"}, {0, " "}, {0, "a"}});
    EXPECT_THAT(tokenizer.encode("aa"), ElementsAre(3, 4, 4));
    EXPECT_THROW(tokenizer.encode("b"), std::runtime_error);
}

TEST_F(Llama2cTokenizerTest, DecodesAsAText) {
    const Llama2cTokenizer tokenizer = make(with_bytes({{0, " "}, {0, " a"}, {0, "<0xZZ>"}, {0, "<0x41"}}));
    EXPECT_EQ(tokenizer.decode(Llama2cTokenizer::bos, 260), "a");  // the space that encode() put there
    EXPECT_EQ(tokenizer.decode(260, 260), " a");
    EXPECT_EQ(tokenizer.decode(260, 'A' + 3), "A");
    EXPECT_EQ(tokenizer.decode(260, 3), std::string_view("\0", 1));
    EXPECT_EQ(tokenizer.decode(260, 0xff + 3), "\xff");
    EXPECT_EQ(tokenizer.decode(260, 261), "<0xZZ>");  // no byte
    EXPECT_EQ(tokenizer.decode(260, 262), "<0x41");
    EXPECT_EQ(tokenizer.decode(260, Llama2cTokenizer::bos), "\n<s>\n");
}

TEST_F(Llama2cTokenizerTest, AgreesWithTheSimplestForm) {
    Random random(11);
    for (int vocabulary = 0; vocabulary < 20; ++vocabulary) {
        // Pieces of few letters, so that pairs are frequent; few scores, so that equal ones are, too.
        std::vector<Piece> more;
        for (const char* letter : {" ", "a", "b", "c"}) more.push_back({0, letter});
        for (int i = 0; i < 40; ++i) {
            std::string text;
            for (std::uint64_t n = 2 + random.next() % 3; n > 0; --n) text += " abc\xc3"[random.next() % 4];
            more.push_back({static_cast<float>(random.next() % 8), text});
        }
        const std::vector<Piece> pieces = with_bytes(more);
        const Llama2cTokenizer tokenizer = make(pieces);
        for (const std::size_t length : {0u, 1u, 2u, 3u, 5u, 17u, 60u}) {
            std::string text;
            while (text.size() < length) {
                const std::uint64_t draw = random.next() % 20;
                text += draw == 0 ? "\xc3\xa9" : draw == 1 ? "z" : std::string(1, " abc"[draw % 4]);
            }
            const std::vector<Token> tokens = tokenizer.encode(text);
            EXPECT_EQ(tokens, naive_encode(pieces, text)) << '"' << text << '"';
            EXPECT_EQ(decode_all(tokenizer, tokens), text);
        }
    }
}

TEST_F(Llama2cTokenizerTest, EncodesALongTextInTime) {
    // A quadratic algorithm would take hours for it.
    const Llama2cTokenizer tokenizer(directory_.write("t.bin", syllable_tokenizer(512)), 512);
    Random random(5);
    std::string text;
    while (text.size() < 1000000) text += static_cast<char>('a' + random.next() % 26);
    EXPECT_EQ(decode_all(tokenizer, tokenizer.encode(text)), text);
    const std::string same(1000000, 'b');  // every pair is alike
    EXPECT_EQ(decode_all(tokenizer, tokenizer.encode(same)), same);
}

TEST_F(Llama2cTokenizerTest, SyllableTokenizerHasTheSizeAskedFor) {
    for (const Index vocabulary : {512, 700, 1000}) {
        const Llama2cTokenizer tokenizer(directory_.write("t.bin", syllable_tokenizer(vocabulary)), vocabulary);
        EXPECT_EQ(tokenizer.vocabulary(), vocabulary);
        const std::vector<Token> tokens = tokenizer.encode("banana");
        EXPECT_LT(tokens.size(), 7u);
        EXPECT_EQ(decode_all(tokenizer, tokens), "banana");
    }
}

TEST_F(Llama2cTokenizerTest, RefusesFilesOfAnotherVocabulary) {
    const std::vector<Piece> pieces = with_bytes({{0, "a"}});
    const std::string good = tokenizer_bytes(pieces);
    EXPECT_THAT(refusal("", 260), HasSubstr("empty"));
    EXPECT_THAT(refusal("ab", 260), HasSubstr("ends after 0 tokens"));
    EXPECT_THAT(refusal(good, 261), HasSubstr("ends after 260 tokens, the model's vocabulary has 261"));
    EXPECT_THAT(refusal(good, 259), HasSubstr("9 bytes follow the model's vocabulary of 259 tokens"));
    EXPECT_THAT(refusal(good.substr(0, good.size() - 1), 260), HasSubstr("ends after 259 tokens"));
    EXPECT_THAT(refusal(good.substr(0, good.size() - 5), 260), HasSubstr("ends after 259 tokens"));
    EXPECT_THAT(refusal(good + "x", 260), HasSubstr("1 bytes follow"));
    // Lengths that lead out of the file, in either direction.
    std::string broken = good;
    const std::int32_t lengths[] = {-1, std::numeric_limits<std::int32_t>::min(), 1 << 30};
    for (const std::int32_t length : lengths) {
        std::memcpy(broken.data() + 8, &length, sizeof length);
        EXPECT_THAT(refusal(broken, 260), HasSubstr("token 0 has length " + std::to_string(length)));
    }
    const std::int32_t beyond = static_cast<std::int32_t>(good.size());
    std::memcpy(broken.data() + 8, &beyond, sizeof beyond);
    EXPECT_THAT(refusal(broken, 260), HasSubstr("ends after 0 tokens"));
}

TEST(Utf8, FindsTheFirstInvalidByte) {
    const auto offset = [](std::string_view text) {
        const auto found = first_invalid_utf8(text);
        return found ? static_cast<int>(*found) : -1;
    };
    EXPECT_EQ(offset(""), -1);
    EXPECT_EQ(offset("abc"), -1);
    EXPECT_EQ(offset("\xc2\x80 \xdf\xbf"), -1);                                    // 2 bytes, first and last
    EXPECT_EQ(offset("\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"), -1);  // 3 bytes, around surrogates
    EXPECT_EQ(offset("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"), -1);                    // 4 bytes, first and last
    EXPECT_EQ(offset("a\x80"), 1);                                                 // a stray continuation
    EXPECT_EQ(offset("\xc0\x80"), 0);                                              // overlong forms
    EXPECT_EQ(offset("\xc1\xbf"), 0);
    EXPECT_EQ(offset("\xe0\x9f\xbf"), 0);
    EXPECT_EQ(offset("\xf0\x8f\xbf\xbf"), 0);
    EXPECT_EQ(offset("ab\xed\xa0\x80"), 2);    // a surrogate
    EXPECT_EQ(offset("\xf4\x90\x80\x80"), 0);  // above U+10FFFF
    EXPECT_EQ(offset("\xf5\x80\x80\x80"), 0);
    EXPECT_EQ(offset("\xff"), 0);
    EXPECT_EQ(offset("abc\xc3"), 3);  // cut short
    EXPECT_EQ(offset("\xe2\x82"), 0);
    EXPECT_EQ(offset("\xf0\x9f\x98"), 0);
    EXPECT_EQ(offset("\xc3(a"), 0);  // no continuation
}

}  // namespace
}  // namespace llama
