// SPDX-License-Identifier: MIT
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "llama/io/protobuf.hpp"
#include "llama/model/random.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"

namespace llama {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string& model_path() {
    static const std::string path = test::tokenizer_fixture("llama2/tokenizer.model");
    return path;
}

TEST(SentencePieceTokenizer, GivesTheSameIds) {
    const SentencePieceTokenizer tokenizer(model_path());
    test::expect_same_ids_on_all_pages(tokenizer, "llama2", [&](const std::string& text) {
        if (text.find("\xe2\x96\x81") != std::string::npos) return;  // U+2581 becomes a space
        if (text.find("<s>") != std::string::npos) return;           // control tokens are no text
        EXPECT_EQ(test::decode_all(tokenizer, tokenizer.encode(text)), text);
    });
}

TEST(SentencePieceTokenizer, HasTheControlTokensOfTheModel) {
    const SentencePieceTokenizer tokenizer(model_path());
    EXPECT_EQ(tokenizer.vocabulary(), 460);
    EXPECT_EQ(tokenizer.begin_of_text(), 1);
    EXPECT_THAT(tokenizer.end_of_text(), ElementsAre(2));
}

TEST(SentencePieceTokenizer, HeedsWhatTheFilesBesideItSay) {
    const test::TemporaryDirectory directory;
    const std::string path = directory.write("tokenizer.model", test::read_text(model_path()));
    const auto with = [&](const std::string& config) {
        directory.write("tokenizer_config.json", config);
        return std::make_unique<SentencePieceTokenizer>(path);
    };
    EXPECT_EQ(with("{}")->begin_of_text(), 1);
    EXPECT_EQ(with("{}")->appended_end(), -1);
    EXPECT_EQ(with(R"({"add_bos_token": false, "add_eos_token": true})")->begin_of_text(), -1);
    EXPECT_EQ(with(R"({"add_bos_token": false, "add_eos_token": true})")->appended_end(), 2);
    // transformers: a space follows a control token in what it calls legacy only.
    const std::vector<Token> spaced = with("{}")->encode("keeper");
    const auto behind = [&](const std::string& config) {
        std::vector<Token> tokens = with(config)->encode("</s>keeper");
        EXPECT_EQ(tokens.front(), 2);
        tokens.erase(tokens.begin());
        return tokens;
    };
    EXPECT_EQ(behind("{}"), spaced);
    EXPECT_EQ(behind(R"({"tokenizer_class": "LlamaTokenizer", "legacy": true})"), spaced);
    EXPECT_NE(behind(R"({"tokenizer_class": "LlamaTokenizer"})"), spaced);
    EXPECT_NE(behind(R"({"tokenizer_class": "LlamaTokenizer", "legacy": false})"), spaced);
    EXPECT_NE(behind(R"({"legacy": false})"), spaced);
}

TEST(SentencePieceTokenizer, ReadsTokensThatWereAddedBesideIt) {
    const test::TemporaryDirectory directory;
    const std::string path = directory.write("tokenizer.model", test::read_text(model_path()));
    const std::string named = R"({"eos_token": "<|im_end|>", "added_tokens_decoder": {
        "460": {"content": "<|im_start|>", "special": true, "rstrip": true},
        "462": {"content": "<tool>", "special": false}}})";
    directory.write("tokenizer_config.json", named);
    directory.write("added_tokens.json", R"({"<|ignored|>": 463})");
    const SentencePieceTokenizer tokenizer(path);
    EXPECT_EQ(tokenizer.vocabulary(), 463);
    EXPECT_THAT(tokenizer.encode("<|im_start|> \n<tool></s>"), ElementsAre(460, 462, 2));
    EXPECT_EQ(tokenizer.decode(3, 460), "");
    EXPECT_EQ(tokenizer.decode(3, 461), "");
    EXPECT_EQ(tokenizer.decode(3, 462), "<tool>");
    // Older directories.
    directory.write("tokenizer_config.json", "{}");
    directory.write("special_tokens_map.json", R"({"additional_special_tokens": ["<|im_end|>"]})");
    directory.write("added_tokens.json", R"({"<|im_end|>": 460, "<tool>": 461})");
    const SentencePieceTokenizer older(path);
    EXPECT_THAT(older.encode("<|im_end|><tool>"), ElementsAre(460, 461));
    EXPECT_EQ(older.decode(3, 460), "");
    EXPECT_EQ(older.decode(3, 461), "<tool>");
    const auto refusal = [&](const std::string& content) -> std::string {
        directory.write("added_tokens.json", content);
        try {
            const SentencePieceTokenizer refused(path);
        } catch (const FileError& error) {
            return error.what();
        }
        return "accepted";
    };
    EXPECT_THAT(refusal(R"({"<x>": 400000000})"), HasSubstr("\"<x>\" has the id 400000000"));
    EXPECT_THAT(refusal(R"({"<x>": -1})"), HasSubstr("added_tokens.json: \"<x>\" has an id"));
    EXPECT_THAT(refusal(R"({"": 460})"), HasSubstr("and 0 bytes"));
    EXPECT_THAT(refusal("[]"), HasSubstr("no JSON object"));
}

TEST(SentencePieceTokenizer, CutsLongTextsWhereNothingChanges) {
    // Without byte pieces unknown characters become one token together, and the model is not cut.
    const std::vector<std::string> letters{"\xe2\x96\x81", "a", "b", "c", "\n"};
    std::vector<std::string> pieces{"<unk>", "<s>", "</s>"};
    std::vector<PieceType> types{PieceType::unknown, PieceType::control, PieceType::control};
    for (const std::string& piece : {std::string("ab"), letters[0] + "ab", std::string("cc"), std::string("cca"),
                                     letters[0] + "abcca", letters[0] + "cc"}) {
        pieces.push_back(piece);
    }
    pieces.insert(pieces.end(), letters.begin(), letters.end());
    types.resize(pieces.size(), PieceType::normal);
    std::vector<float> scores;
    for (std::size_t i = 0; i < pieces.size(); ++i) scores.push_back(-static_cast<float>(i));
    const SentencePieceTokenizer whole(serialize_sentencepiece_bpe(pieces, scores, types, true), "", {});
    for (int byte = 0; byte < 256; ++byte) {
        constexpr const char* digits = "0123456789ABCDEF";
        pieces.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
        types.push_back(PieceType::byte);
        scores.push_back(0);
    }
    const SentencePieceTokenizer in_parts(serialize_sentencepiece_bpe(pieces, scores, types, true), "", {});
    Random random(9);
    std::string text;
    while (text.size() < 300'000) text += "aabbcc \n"[random.next() % 8];
    EXPECT_EQ(in_parts.encode(text) == whole.encode(text), true);
    EXPECT_EQ(in_parts.encode(text).size() < text.size(), true);
}

TEST(SentencePieceTokenizer, DecodesAsAText) {
    const SentencePieceTokenizer tokenizer(model_path());
    const Token word = tokenizer.encode("The").front();
    const std::string_view text = tokenizer.decode(word, word);
    ASSERT_TRUE(text.starts_with(' '));
    EXPECT_EQ(tokenizer.decode(1, word), text.substr(1));   // after BOS
    EXPECT_EQ(tokenizer.decode(-1, word), text.substr(1));  // at the beginning
    EXPECT_EQ(tokenizer.decode(word, 1), "");               // a control token
    EXPECT_EQ(tokenizer.decode(word, 2), "");
    EXPECT_EQ(tokenizer.decode(word, 0), " \xe2\x81\x87 ");  // what the library has for the unknown
    EXPECT_EQ(tokenizer.decode(word, 3), std::string_view("\0", 1));
    EXPECT_EQ(tokenizer.decode(word, 3 + 0xff), "\xff");
    EXPECT_EQ(tokenizer.decode(word, -1), "");  // of a model whose vocabulary is padded
    EXPECT_EQ(tokenizer.decode(word, 460), "");
}

TEST(SentencePieceTokenizer, EncodesALongTextInTime) {
    const SentencePieceTokenizer tokenizer(model_path());
    const std::string text(100'000, 'a');
    EXPECT_EQ(test::decode_all(tokenizer, tokenizer.encode(text)), text);
}

class HostileSentencePieceModel : public testing::Test {
protected:
    std::string refusal(const std::string& content) const {
        const std::string path = directory_.write("tokenizer.model", content);
        try {
            const SentencePieceTokenizer tokenizer(path);
        } catch (const FileError& error) {
            const std::string message = error.what();
            EXPECT_THAT(message, testing::StartsWith(path + ": "));
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
            return message;
        }
        ADD_FAILURE() << "accepted";
        return {};
    }

    static std::string model(const std::vector<std::string>& pieces, const std::vector<PieceType>& types) {
        return serialize_sentencepiece_bpe(pieces, std::vector<float>(pieces.size()), types, true);
    }

    test::TemporaryDirectory directory_;
};

TEST_F(HostileSentencePieceModel, IsRefused) {
    const std::string good = test::read_text(model_path());
    EXPECT_THAT(refusal(""), HasSubstr("empty"));
    EXPECT_THAT(refusal(good.substr(0, good.size() / 2)), HasSubstr("ends within a field"));
    EXPECT_THAT(refusal("garbage"), HasSubstr("no usable SentencePiece model"));
    EXPECT_THAT(refusal(std::string(20, '\xff')), HasSubstr("more than 64 bits"));
    EXPECT_THAT(refusal(model({"a"}, {PieceType::normal})), HasSubstr("unk is not defined"));
    const PieceType unknown = PieceType::unknown;
    EXPECT_THAT(refusal(model({"<unk>", "a\n", "a\n"}, {unknown, PieceType::normal, PieceType::normal})),
                HasSubstr("a\\x0a is already defined"));
    EXPECT_THAT(refusal(model({"<unk>", ""}, {unknown, PieceType::normal})), HasSubstr("must not be empty"));
    EXPECT_THAT(refusal(model({"<unk>", "<0x41>"}, {unknown, PieceType::byte})), HasSubstr("256 byte pieces"));
    EXPECT_THAT(refusal(model({"<unk>", "<0xXY>"}, {unknown, PieceType::byte})), HasSubstr("<0xXY> is invalid"));
}

TEST_F(HostileSentencePieceModel, IsRefusedWithMorePiecesThanItsSizeHasMemoryFor) {
    std::vector<std::string> pieces{"<unk>"};
    for (int i = 0; i < 400'000; ++i) pieces.push_back(std::to_string(i));
    std::vector<PieceType> types(pieces.size(), PieceType::normal);
    types[0] = PieceType::unknown;
    EXPECT_THAT(refusal(model(pieces, types)), HasSubstr("pieces, the most for a model of its size"));
    pieces.resize(262'144);  // as many as Gemma's has
    types.resize(pieces.size());
    const SentencePieceTokenizer tokenizer(directory_.write("large.model", model(pieces, types)));
    EXPECT_EQ(tokenizer.vocabulary(), 262'144);
}

TEST_F(HostileSentencePieceModel, IsRefusedWhereTheLibraryWouldLeaveItsMemory) {
    const PieceType unknown = PieceType::unknown;
    std::vector<std::string> pieces{"<unk>"};
    std::vector<PieceType> types{unknown};
    for (std::size_t length = 1; length <= 65; ++length) {
        pieces.emplace_back(length, 'a');
        types.push_back(PieceType::user_defined);
    }
    EXPECT_THAT(refusal(model(pieces, types)), HasSubstr("more than 64 user-defined pieces"));
    EXPECT_THAT(refusal(model({"<unk>", std::string(5000, 'a')}, {unknown, PieceType::unused})),
                HasSubstr("piece 1 has 5000 bytes; at most 4096"));
    EXPECT_THAT(refusal(model({"<unk>", std::string(1, '\0')}, {unknown, PieceType::user_defined})),
                HasSubstr("piece 1 has a null character"));
    ProtobufWriter normalizer, appended;
    normalizer.add(1, std::string_view("nmt\n"));
    normalizer.add(2, std::string_view("\x04\0\0\0\xff\xff\xff\xff\0", 9));
    appended.add(3, normalizer.message());
    EXPECT_THAT(refusal(model({"<unk>"}, {unknown}) + appended.message()),
                HasSubstr("normalizer \"nmt\\x0a\" rewrites characters"));
}

}  // namespace
}  // namespace llama
