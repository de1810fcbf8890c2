// SPDX-License-Identifier: MIT
#include "llama/tokenizers/gguf_tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
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
            vocabulary.types.resize(id + 1);
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
    EXPECT_THAT(make_gguf_tokenizer(qwen2, "")->end_of_text(), ElementsAre());
}

TEST(GgufTokenizer, RefusesWhatItDoesNotKnow) {
    GgufVocabulary vocabulary = sentencepiece_vocabulary();
    vocabulary.model = "bert\n";
    EXPECT_THAT(refusal(vocabulary), HasSubstr(R"(tokenizer.ggml.model is "bert\x0a", supported are llama and gpt2)"));
    EXPECT_THAT(refusal(bpe_vocabulary("qwen2", "tekken")),
                HasSubstr(R"("tekken", supported are default, gpt-2, llama3)"));
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
    bad.tokens[0] = "!!";
    EXPECT_THAT(refusal(bad), HasSubstr("no token for byte 33"));
}

}  // namespace
}  // namespace llama
