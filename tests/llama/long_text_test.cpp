// SPDX-License-Identifier: MIT
#include "llama/tokenizers/long_text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "llama/model/random.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"
#include "llama/tokenizers/tokenizer_json.hpp"

namespace llama {
namespace {

using test::refusal_of;
using test::tokenizer_fixture;
using testing::HasSubstr;

#if defined(_OPENMP)
constexpr int most_threads = 3;
#else
constexpr int most_threads = 1;
#endif

// Words and lines of all lengths: empty ones, of spaces, with ends of other systems, in several scripts, and one
// that is longer than the parts in which long texts are read.
std::string random_text(std::size_t bytes) {
    static constexpr const char* pieces[] = {"the ", "and", " a",   "in", "ing", "\xc3\xa9", "\xe4\xbd\xa0",
                                             " ",    "  ",  "7",    "\t", "I",   ".",        "\"",
                                             "\r\n", "\n",  "\n\n", "\n "};
    Random random(11);
    std::string text = "\n" + std::string(100'000, 'o') + "\n";
    while (text.size() < bytes) text += pieces[random.next() % std::size(pieces)];
    return text;
}

TEST(LongText, GivesTheTokensOfTheWholeText) {
    const SentencePieceTokenizer tokenizer(tokenizer_fixture("llama2/tokenizer.model"));
    ASSERT_TRUE(tokenizer.lines_are_independent());
    for (const std::size_t bytes : {0u, 1u, 500'000u}) {
        const std::string text = bytes > 1 ? random_text(bytes) : std::string(bytes, 'a');
        const std::vector<Token> whole = tokenizer.encode(text);
        for (int threads = 1; threads <= most_threads; ++threads) {
            EXPECT_EQ(encode_long_text(tokenizer, text, threads), whole)
                << bytes << " bytes, " << threads << " threads";
        }
    }
}

TEST(LongText, OfAnyCutIsTheSame) {
    const SentencePieceTokenizer tokenizer(tokenizer_fixture("llama2/tokenizer.model"));
    const std::string text = random_text(102'000).substr(99'900);
    const std::vector<Token> whole = tokenizer.encode(text);
    for (std::size_t cut = text.find('\n'); cut != std::string::npos; cut = text.find('\n', cut + 1)) {
        std::vector<Token> tokens = tokenizer.encode(text.substr(0, cut + 1));
        const std::vector<Token> rest = encode_after_line(tokenizer, text.substr(cut + 1));
        tokens.insert(tokens.end(), rest.begin(), rest.end());
        ASSERT_EQ(tokens, whole) << "cut behind byte " << cut;
    }
}

TEST(LongText, IsReadAsAWholeWhereLinesDependOnEachOther) {
    const auto tokenizer = read_tokenizer_json(tokenizer_fixture("llama3/tokenizer.json"));
    EXPECT_FALSE(tokenizer->lines_are_independent());
    const std::string text = random_text(200'000);
    EXPECT_EQ(encode_long_text(*tokenizer, text, most_threads), tokenizer->encode(text));
}

TEST(LongText, LinesDependOnEachOtherUnlessTheModelSaysOtherwise) {
    const auto independent = [](std::vector<std::string> pieces, std::vector<PieceType> types) {
        pieces.insert(pieces.begin(), "<unk>");
        types.insert(types.begin(), PieceType::unknown);
        const std::vector<float> scores(pieces.size());
        return check_sentencepiece_model(serialize_sentencepiece_bpe(pieces, scores, types, true), "m")
            .lines_are_independent;
    };
    EXPECT_TRUE(independent({"\n", "a"}, {PieceType::normal, PieceType::normal}));
    EXPECT_TRUE(independent({"<0x00>", "a"}, {PieceType::byte, PieceType::normal}));
    EXPECT_FALSE(independent({"a", "b"}, {PieceType::normal, PieceType::normal})) << "unknown ends of lines join";
    EXPECT_FALSE(independent({"\n", ".\n"}, {PieceType::normal, PieceType::normal}));
    EXPECT_FALSE(independent({"\n", "\n\n"}, {PieceType::normal, PieceType::user_defined}));
    EXPECT_FALSE(independent({"\n", "a"}, {PieceType::normal, PieceType::unused}));
}

TEST(LongText, AfterALineHasNoSpaceBeforeIt) {
    const SentencePieceTokenizer sentencepiece(tokenizer_fixture("llama2/tokenizer.model"));
    const std::unique_ptr<const Tokenizer> bytes = read_tokenizer_json(tokenizer_fixture("llama3/tokenizer.json"));
    for (const Tokenizer* const tokenizer : std::initializer_list<const Tokenizer*>{&sentencepiece, bytes.get()}) {
        for (const std::string text : {"The end", "\nThe", " The", "\n\n", ""}) {
            std::string decoded;
            for (const Token token : encode_after_line(*tokenizer, text)) decoded += tokenizer->decode(5, token);
            EXPECT_EQ(decoded, text);
        }
    }
}

TEST(LongText, OfFilesIsReadOneAfterTheOther) {
    const test::TemporaryDirectory directory;
    const SentencePieceTokenizer tokenizer(tokenizer_fixture("llama2/tokenizer.model"));
    const std::string first = directory.write("a.txt", "the first\n");
    const std::string second = directory.write("b.txt", random_text(150'000));
    std::vector<Token> expected{1};
    for (const Token token : tokenizer.encode("the first\n")) expected.push_back(token);
    expected.push_back(1);
    for (const Token token : tokenizer.encode(random_text(150'000))) expected.push_back(token);
    double reached = 0;
    const TextTokens text =
        read_text_files({first, second}, tokenizer, 460, 1, [&](const std::string& path, double part) {
            EXPECT_EQ(path, second);
            EXPECT_GT(part, reached);
            reached = part;
        });
    EXPECT_EQ(text.tokens, expected);
    EXPECT_EQ(text.bytes, 10 + random_text(150'000).size());
    EXPECT_EQ(reached, 1);
}

TEST(LongText, OfBadFilesIsRefused) {
    const test::TemporaryDirectory directory;
    const SentencePieceTokenizer tokenizer(tokenizer_fixture("llama2/tokenizer.model"));
    const auto refusal = [&](const std::string& content, Index vocabulary) {
        const std::string path = directory.write("bad.txt", content);
        return refusal_of([&] { read_text_files({path}, tokenizer, vocabulary, 1); });
    };
    EXPECT_THAT(refusal("", 460), HasSubstr("bad.txt: the file is empty"));
    EXPECT_THAT(refusal("a\nbc\xff", 460), HasSubstr("bad.txt: not UTF-8 at byte 4"));
    EXPECT_THAT(refusal("the", 40), HasSubstr("the model's vocabulary has 40"));
    EXPECT_THAT(refusal_of([&] { read_text_files({directory / "none"}, tokenizer, 460, 1); }),
                HasSubstr("No such file"));
}

}  // namespace
}  // namespace llama
