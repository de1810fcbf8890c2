// SPDX-License-Identifier: MIT
#include "llama/tokenizers/gguf_tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/utf8.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"

namespace llama {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

GgufVocabulary sentencepiece_vocabulary() {
    const json content = read_json(test::tokenizer_fixture("llama2/vocabulary.json"));
    GgufVocabulary vocabulary;
    vocabulary.model = "llama";
    vocabulary.tokens = content.at("tokens").get<std::vector<std::string>>();
    vocabulary.scores = content.at("scores").get<std::vector<float>>();
    vocabulary.types = content.at("types").get<std::vector<std::int32_t>>();
    vocabulary.bos = 1;
    vocabulary.eos = 2;
    return vocabulary;
}

// What a converter makes of a tokenizer.json.
GgufVocabulary bpe_vocabulary(const std::string& name, const std::string& pre) {
    const json content = read_json(test::tokenizer_fixture(name + "/tokenizer.json"));
    GgufVocabulary vocabulary;
    vocabulary.model = "gpt2";
    vocabulary.pre = pre;
    const auto set = [&](const std::string& token, std::size_t id, PieceType type) {
        if (id >= vocabulary.tokens.size()) {
            vocabulary.tokens.resize(id + 1);
            vocabulary.types.resize(id + 1, static_cast<std::int32_t>(PieceType::unused));
        }
        vocabulary.tokens[id] = token;
        vocabulary.types[id] = static_cast<std::int32_t>(type);
    };
    for (const auto& [token, id] : content.at("model").at("vocab").items()) {
        set(token, id.get<std::size_t>(), PieceType::normal);
    }
    for (const json& token : content.at("added_tokens")) {
        set(token.at("content").get<std::string>(), token.at("id").get<std::size_t>(),
            token.at("special").get<bool>() ? PieceType::control : PieceType::user_defined);
    }
    for (const json& merge : content.at("model").at("merges")) {
        vocabulary.merges.push_back(merge.is_string()
                                        ? merge.get<std::string>()
                                        : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    }
    vocabulary.bos = static_cast<Token>(vocabulary.tokens.size()) - 1;
    vocabulary.eos = 3;
    return vocabulary;
}

std::string refusal(GgufVocabulary vocabulary) {
    try {
        make_gguf_tokenizer(std::move(vocabulary), "m.gguf");
    } catch (const FileError& error) {
        const std::string message = error.what();
        EXPECT_THAT(message, testing::StartsWith("m.gguf: "));
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        return message;
    }
    ADD_FAILURE() << "accepted";
    return {};
}

TEST(GgufTokenizer, GivesTheSameIdsAsTheSentencePieceModel) {
    const auto tokenizer = make_gguf_tokenizer(sentencepiece_vocabulary(), "");
    test::expect_same_ids_on_all_pages(*tokenizer, "llama2", [](const std::string&) {});
}

TEST(GgufTokenizer, GivesTheSameIdsAsTheJson) {
    for (const auto& [name, pre] : {std::pair("llama3", "llama-bpe"), {"qwen2", "qwen2"}, {"smollm", "smollm"}}) {
        const auto tokenizer = make_gguf_tokenizer(bpe_vocabulary(name, pre), "");
        test::expect_same_ids_on_all_pages(*tokenizer, name, [](const std::string&) {});
    }
}

TEST(GgufTokenizer, PutsNoSpaceBeforeATextIfTheFileSaysSo) {
    GgufVocabulary vocabulary = sentencepiece_vocabulary();
    const auto spaced = make_gguf_tokenizer(vocabulary, "");
    vocabulary.add_space_prefix = false;
    const auto plain = make_gguf_tokenizer(vocabulary, "");
    EXPECT_EQ(plain->encode(" keeper"), spaced->encode("keeper"));
    EXPECT_NE(plain->encode("keeper"), spaced->encode("keeper"));
    EXPECT_EQ(test::decode_all(*spaced, spaced->encode(" keeper")), " keeper");
    EXPECT_EQ(test::decode_all(*plain, plain->encode(" keeper")), " keeper");
}

TEST(GgufTokenizer, BeginsWithBosWhereTheFileOrItsKindSaysSo) {
    GgufVocabulary llama = sentencepiece_vocabulary();
    EXPECT_EQ(make_gguf_tokenizer(llama, "")->begin_of_text(), 1);
    EXPECT_THAT(make_gguf_tokenizer(llama, "")->end_of_text(), ElementsAre(2));
    llama.add_bos = false;
    EXPECT_EQ(make_gguf_tokenizer(llama, "")->begin_of_text(), -1);
    EXPECT_EQ(make_gguf_tokenizer(bpe_vocabulary("llama3", "llama3"), "")->begin_of_text(), 424);
    GgufVocabulary qwen2 = bpe_vocabulary("qwen2", "qwen2");
    EXPECT_EQ(make_gguf_tokenizer(qwen2, "")->begin_of_text(), -1);
    qwen2.add_bos = true;
    EXPECT_EQ(make_gguf_tokenizer(qwen2, "")->begin_of_text(), qwen2.bos);
    qwen2.eos = -1;
    EXPECT_THAT(make_gguf_tokenizer(qwen2, "")->end_of_text(), ElementsAre(420, 422));
}

TEST(GgufTokenizer, ReadsControlTokensInTexts) {
    // As llama.cpp does: what follows a control token gets a space as a text does, unless the file says no.
    GgufVocabulary vocabulary = sentencepiece_vocabulary();
    vocabulary.tokens.emplace_back("<|im_start|>");
    vocabulary.scores.push_back(-1000);
    vocabulary.types.push_back(static_cast<std::int32_t>(PieceType::control));
    vocabulary.tokens.emplace_back("<tool>");
    vocabulary.scores.push_back(0);
    vocabulary.types.push_back(static_cast<std::int32_t>(PieceType::user_defined));
    const auto tokenizer = make_gguf_tokenizer(vocabulary, "");
    const auto of = [&](const std::string& text) { return tokenizer->encode(text); };
    std::vector<Token> expected = of("the river");
    expected.insert(expected.end(), {2, 1, 460});
    for (const Token token : of("keeper")) expected.push_back(token);
    expected.push_back(461);
    for (const Token token : of("a")) expected.push_back(token);
    EXPECT_EQ(of("the river</s><s><|im_start|>keeper<tool>a"), expected);
    EXPECT_EQ(tokenizer->decode(3, 460), "");
    EXPECT_EQ(tokenizer->decode(3, 461), "<tool>");
    const std::vector<Token> plain = tokenizer->encode("a</s><tool>", SpecialTokens::plain);
    EXPECT_EQ(std::count(plain.begin(), plain.end(), 2), 0);
    EXPECT_EQ(std::count(plain.begin(), plain.end(), 461), 1);
    vocabulary.add_space_prefix = false;
    const auto bare = make_gguf_tokenizer(vocabulary, "");
    std::vector<Token> two = bare->encode("keeper");
    two.push_back(2);
    for (const Token token : bare->encode("keeper")) two.push_back(token);
    EXPECT_EQ(bare->encode("keeper</s>keeper"), two);
}

TEST(GgufTokenizer, EndsATextWithWhatIsKnownToEndOne) {
    GgufVocabulary vocabulary =
        bpe_vocabulary("qwen2", "qwen2");  // <|endoftext|> 420, <|im_start|> 421, <|im_end|> 422
    vocabulary.eos = 421;
    vocabulary.other_ends = {7, 421};
    EXPECT_THAT(make_gguf_tokenizer(vocabulary, "")->end_of_text(), ElementsAre(421, 7, 420, 422));
    // What says so by its text is a control token, whatever its type.
    vocabulary.types[422] = static_cast<std::int32_t>(PieceType::normal);
    EXPECT_THAT(make_gguf_tokenizer(vocabulary, "")->encode("<|im_end|>"), ElementsAre(422));
    EXPECT_EQ(make_gguf_tokenizer(vocabulary, "")->decode(0, 422), "");
    EXPECT_EQ(make_gguf_tokenizer(vocabulary, "")->appended_end(), -1);
    vocabulary.add_eos = true;
    EXPECT_EQ(make_gguf_tokenizer(vocabulary, "")->appended_end(), 421);
    GgufVocabulary llama = sentencepiece_vocabulary();
    llama.eos = -1;
    EXPECT_THAT(make_gguf_tokenizer(llama, "")->end_of_text(), ElementsAre(2));  // </s>
}

TEST(GgufTokenizer, LeavesOutBytesWithoutATokenAsLlamaCppDoes) {
    GgufVocabulary vocabulary = bpe_vocabulary("gaps", "gpt-2");
    const auto tokenizer = make_gguf_tokenizer(vocabulary, "");
    test::expect_same_ids_on_all_pages(*tokenizer, "gaps", [](const std::string&) {});
    EXPECT_EQ(tokenizer->encode("a\x04"
                                "b"),
              tokenizer->encode("a\x06"
                                "b"));
    EXPECT_EQ(tokenizer
                  ->encode("a\x04"
                           "b")
                  .size(),
              2u);
}

TEST(GgufTokenizer, CutsTextsAsTheFamilySays) {
    for (const char* const pre : {"deepseek-r1-qwen", "megrez", "kormo"}) {
        const auto tokenizer = make_gguf_tokenizer(bpe_vocabulary("qwen2", pre), "");
        test::expect_same_ids_on_all_pages(*tokenizer, "qwen2", [](const std::string&) {});
    }
    for (const char* const pre : {"llama-v3", "falcon3", "pixtral"}) {
        const auto tokenizer = make_gguf_tokenizer(bpe_vocabulary("llama3", pre), "");
        test::expect_same_ids_on_all_pages(*tokenizer, "llama3", [](const std::string&) {});
        EXPECT_EQ(tokenizer->begin_of_text(), 424);
    }
    for (const char* const pre : {"starcoder", "refact", "codeshell", "command-r"}) {
        const auto tokenizer = make_gguf_tokenizer(bpe_vocabulary("smollm", pre), "");
        test::expect_same_ids_on_all_pages(*tokenizer, "smollm", [](const std::string&) {});
    }
    EXPECT_EQ(make_gguf_tokenizer(bpe_vocabulary("qwen2", "tekken"), "")->begin_of_text(), 425);
    EXPECT_EQ(make_gguf_tokenizer(bpe_vocabulary("qwen2", "smaug-bpe"), "")->begin_of_text(), -1);
}

// Tokens of one byte each, and for every two of them, so that it shows where pieces end.
std::vector<std::string> cut_by(const std::string& pre, const std::string& text) {
    GgufVocabulary vocabulary = bpe_vocabulary("gpt2", pre);
    const std::set<std::string> known(vocabulary.tokens.begin(), vocabulary.tokens.end());
    std::vector<std::string> units;
    for (const std::string& token : vocabulary.tokens) {
        const std::size_t length = utf8_length(token);
        if (length == token.size() && (token == "\xc4\xa0" || text.find(token) != std::string::npos))
            units.push_back(token);
    }
    vocabulary.merges.clear();
    for (const std::string& left : units) {
        for (const std::string& right : units) {
            vocabulary.merges.push_back(left + " " + right);
            if (known.contains(left + right)) continue;
            vocabulary.tokens.push_back(left + right);
            vocabulary.types.push_back(static_cast<std::int32_t>(PieceType::normal));
        }
    }
    const auto tokenizer = make_gguf_tokenizer(vocabulary, "m.gguf");
    std::vector<std::string> pieces;
    for (const Token token : tokenizer->encode(text)) pieces.emplace_back(tokenizer->decode(-1, token));
    return pieces;
}

TEST(GgufTokenizer, CutsByDefaultAsLlamaCppDoes) {
    // GPT-2 takes a space to what follows it and numbers and signs as a whole; the default has signs first, then
    // numbers, three digits at a time.
    EXPECT_THAT(cut_by("gpt-2", " +"), ElementsAre(" +"));
    EXPECT_THAT(cut_by("default", " +"), ElementsAre(" ", "+"));
    EXPECT_THAT(cut_by("gpt-2", " 7"), ElementsAre(" 7"));
    EXPECT_THAT(cut_by("default", " 7"), ElementsAre(" ", "7"));
    EXPECT_THAT(cut_by("gpt-2", "12345"), ElementsAre("12", "34", "5"));
    EXPECT_THAT(cut_by("default", "12345"), ElementsAre("12", "3", "45"));
}

TEST(GgufTokenizer, SaysWhatItAssumesWhereTheFileDoesNotSay) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(cut_by("", " +12345"), cut_by("default", " +12345"));
    EXPECT_THAT(
        testing::internal::GetCapturedStderr(),
        testing::MatchesRegex("freqkv-llama: warning: m.gguf: tokenizer.ggml.pre is missing, [^\n]*\"default\" is "
                              "assumed[^\n]*\n"));
}

TEST(GgufTokenizer, RefusesWhatItDoesNotKnow) {
    GgufVocabulary vocabulary = sentencepiece_vocabulary();
    vocabulary.model = "bert\n";
    EXPECT_THAT(refusal(vocabulary), HasSubstr(R"(tokenizer.ggml.model is "bert\x0a", supported are llama and gpt2)"));
    EXPECT_THAT(refusal(bpe_vocabulary("qwen2", "bloom")),
                HasSubstr(R"("bloom", supported are default, gpt-2, phi-2)"));
}

TEST(GgufTokenizer, RefusesPartsThatDoNotFit) {
    const GgufVocabulary good = sentencepiece_vocabulary();
    GgufVocabulary bad = good;
    bad.tokens.clear();
    EXPECT_THAT(refusal(bad), HasSubstr("tokenizer.ggml.tokens has 0 entries"));
    bad = good;
    bad.scores.pop_back();
    EXPECT_THAT(refusal(bad), HasSubstr("scores has 459 entries, must have one for each of the 460 tokens"));
    bad = good;
    bad.types.clear();
    EXPECT_THAT(refusal(bad), HasSubstr("token_type has 0 entries"));
    bad = good;
    bad.types[7] = 9;
    EXPECT_THAT(refusal(bad), HasSubstr("token 7 is of type 9, must be 1 to 6"));
    bad = good;
    bad.bos = 460;
    EXPECT_THAT(refusal(bad), HasSubstr("bos_token_id is 460, outside the vocabulary of 460"));
    bad = good;
    bad.eos = -2;
    EXPECT_THAT(refusal(bad), HasSubstr("eos_token_id is -2"));
    bad = good;
    bad.tokens[300] = bad.tokens[301];
    EXPECT_THAT(refusal(bad), HasSubstr("is already defined"));
    bad = bpe_vocabulary("qwen2", "qwen2");
    bad.merges[5] = "ab";
    EXPECT_THAT(refusal(bad), HasSubstr(R"(merge 5 is "ab", must be two tokens)"));
    bad = bpe_vocabulary("qwen2", "qwen2");
    bad.merges.clear();
    EXPECT_THAT(refusal(bad), HasSubstr("tokenizer.ggml.merges is missing"));
}

}  // namespace
}  // namespace llama
