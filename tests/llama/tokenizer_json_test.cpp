// SPDX-License-Identifier: MIT
#include "llama/tokenizers/tokenizer_json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/json_file.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizer_pages.hpp"
#include "llama/tokenizers/nfc.hpp"

namespace llama {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<Tokenizer> fixture(const std::string& name) {
    return read_tokenizer_json(test::tokenizer_fixture(name + "/tokenizer.json"));
}

bool has_control_tokens(const std::string& text) { return text.find("<|") != std::string::npos; }

TEST(TokenizerJson, GivesTheSameIdsForLlama3) {
    const auto tokenizer = fixture("llama3");
    test::expect_same_ids_on_all_pages(*tokenizer, "llama3", [&](const std::string& text) {
        if (has_control_tokens(text)) return;
        EXPECT_EQ(test::decode_all(*tokenizer, tokenizer->encode(text)), text);
    });
}

TEST(TokenizerJson, GivesTheSameIdsForQwen2) {
    const auto tokenizer = fixture("qwen2");
    test::expect_same_ids_on_all_pages(*tokenizer, "qwen2", [&](const std::string& text) {
        if (has_control_tokens(text)) return;
        EXPECT_EQ(test::decode_all(*tokenizer, tokenizer->encode(text)), to_nfc(text));
    });
}

TEST(TokenizerJson, GivesTheSameIdsForGpt2) {
    const auto tokenizer = fixture("gpt2");
    test::expect_same_ids_on_all_pages(*tokenizer, "gpt2", [&](const std::string& text) {
        const std::string spaced = text.empty() || text.starts_with(' ') ? text : " " + text;
        EXPECT_EQ(test::decode_all(*tokenizer, tokenizer->encode(text)), spaced);
    });
}

TEST(TokenizerJson, GivesTheSameIdsForSmolLm) {
    const auto tokenizer = fixture("smollm");
    test::expect_same_ids_on_all_pages(*tokenizer, "smollm", [&](const std::string& text) {
        EXPECT_EQ(test::decode_all(*tokenizer, tokenizer->encode(text)), text);
    });
}

TEST(TokenizerJson, GivesTheSameIdsForFlagsAndMissingBytes) {
    for (const char* const name : {"flags", "gaps", "gaps-unknown", "gaps-fused"}) {
        test::expect_same_ids_on_all_pages(*fixture(name), name, [](const std::string&) {});
    }
}

TEST(TokenizerJson, GivesTheSameIdsForThoseOfCharacters) {
    for (const char* const name : {"llama2-first", "llama2-always", "llama2-prepend", "gemma"}) {
        const auto tokenizer = fixture(name);
        // Unknown characters are lost; what follows an added token gets a space.
        const bool loses = std::string(name) == "gemma" || std::string(name) == "llama2-prepend";
        test::expect_same_ids_on_all_pages(*tokenizer, name, [&](const std::string& text) {
            const bool has_mark = text.find("\xe2\x96\x81") != std::string::npos;
            if (loses || has_mark || text.starts_with(' ') || text.find("<s>") != std::string::npos) return;
            EXPECT_EQ(test::decode_all(*tokenizer, tokenizer->encode(text)), text);
        });
        EXPECT_EQ(tokenizer->lines_are_independent(),
                  name == std::string("llama2-first") || name == std::string("llama2-always"))
            << name;
    }
}

TEST(TokenizerJson, HeedsWhatTokenizerConfigSays) {
    EXPECT_EQ(fixture("llama2-first")->begin_of_text(), 1);
    EXPECT_EQ(fixture("llama2-prepend")->begin_of_text(), 1);
    EXPECT_EQ(fixture("llama2-prepend")->appended_end(), 2);
    EXPECT_THAT(fixture("llama2-prepend")->end_of_text(), ElementsAre(2));
    const test::TemporaryDirectory directory;
    const std::string path =
        directory.write("tokenizer.json", test::read_text(test::tokenizer_fixture("llama2-prepend/tokenizer.json")));
    const auto with = [&](const std::string& config) {
        directory.write("tokenizer_config.json", config);
        return read_tokenizer_json(path);
    };
    // Either key takes the place of the file's template.
    EXPECT_EQ(with(R"({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false})")->begin_of_text(), -1);
    EXPECT_EQ(with(R"({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true})")->appended_end(), -1);
    EXPECT_EQ(with(R"({"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": true})")->appended_end(), 2);
    EXPECT_EQ(with(R"({"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": true})")->begin_of_text(), -1);
    EXPECT_EQ(with(R"({"bos_token": null, "add_bos_token": true})")->begin_of_text(), -1);
    directory.write("special_tokens_map.json", R"({"eos_token": {"content": "<s>"}})");
    EXPECT_THAT(with("{}")->end_of_text(), ElementsAre(1));
}

TEST(TokenizerJson, ReadsBosFromTheTemplateAndEosFromTheConfiguration) {
    EXPECT_EQ(fixture("llama3")->begin_of_text(), 420);
    EXPECT_THAT(fixture("llama3")->end_of_text(), ElementsAre(421));
    EXPECT_EQ(fixture("qwen2")->begin_of_text(), -1);
    EXPECT_THAT(fixture("qwen2")->end_of_text(), ElementsAre(422));
    EXPECT_EQ(fixture("gpt2")->begin_of_text(), -1);
    EXPECT_THAT(fixture("gpt2")->end_of_text(), ElementsAre());
    EXPECT_EQ(fixture("llama3")->vocabulary(), 425);
}

class HostileTokenizerJson : public testing::Test {
protected:
    // The message with which LLaMA-3's tokenizer is refused after a change.
    std::string refusal(const std::function<void(json&)>& change) const {
        json content = read_json(test::tokenizer_fixture("llama3/tokenizer.json"));
        change(content);
        return refusal_of(content.dump());
    }

    std::string refusal_of(const std::string& content) const {
        const std::string path = directory_.write("tokenizer.json", content);
        try {
            read_tokenizer_json(path);
        } catch (const FileError& error) {
            const std::string message = error.what();
            EXPECT_THAT(message, testing::StartsWith(directory_.path()));
            EXPECT_EQ(message.find('\n'), std::string::npos) << message;
            return message;
        }
        ADD_FAILURE() << "accepted";
        return {};
    }

    test::TemporaryDirectory directory_;
};

TEST_F(HostileTokenizerJson, OtherKindsAreRefusedByName) {
    const auto set = [](const char* place, const json& value) {
        return [place, value](json& content) { content[json::json_pointer(place)] = value; };
    };
    EXPECT_THAT(refusal(set("/model/type", "Unigram")),
                testing::AllOf(HasSubstr("\"Unigram\" is not supported"), HasSubstr("tokenizer.model")));
    EXPECT_THAT(refusal(set("/model/type", "Word\nPiece")), HasSubstr("\"Word\\x0aPiece\""));
    EXPECT_THAT(refusal(set("/model/byte_fallback", true)), HasSubstr("byte_fallback"));
    EXPECT_THAT(refusal(set("/model/end_of_word_suffix", "</w>")), HasSubstr("end_of_word_suffix \"</w>\""));
    EXPECT_THAT(refusal(set("/model/dropout", 0.1)), HasSubstr("dropout 0.1"));
    EXPECT_THAT(refusal(set("/normalizer", {{"type", "Lowercase"}})),
                HasSubstr("normalizer of the type \"Lowercase\""));
    EXPECT_THAT(refusal(set("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}}}})),
                HasSubstr("\"NFKC\""));
    EXPECT_THAT(refusal(set("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", " "}}}, {"content", ""}})),
                HasSubstr("a Replace whose pattern is no text"));
    EXPECT_THAT(refusal(set("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}})),
                HasSubstr("a Metaspace with the replacement \"_\""));
    EXPECT_THAT(refusal(set("/pre_tokenizer",
                            {{"type", "Metaspace"}, {"replacement", "\xe2\x96\x81"}, {"prepend_scheme", "sometimes"}})),
                HasSubstr("prepend_scheme \"sometimes\""));
    EXPECT_THAT(refusal(set("/pre_tokenizer/pretokenizers/0/type", "Whitespace")), HasSubstr("\"Whitespace\""));
    EXPECT_THAT(refusal(set("/pre_tokenizer/pretokenizers/0/behavior", "Gone")), HasSubstr("behavior \"Gone\""));
    EXPECT_THAT(refusal(set("/pre_tokenizer/pretokenizers/0/pattern", {{"Glob", " "}})),
                HasSubstr("neither a Regex nor a String"));
    EXPECT_THAT(refusal(set("/pre_tokenizer/pretokenizers/1/add_prefix_space", true)), HasSubstr("add_prefix_space"));
    EXPECT_THAT(refusal(set("/post_processor", {{"type", "BertProcessing"}})), HasSubstr("\"BertProcessing\""));
}

TEST_F(HostileTokenizerJson, WhatDoesNotFitIsNamed) {
    const auto set = [](const char* place, const json& value) {
        return [place, value](json& content) { content[json::json_pointer(place)] = value; };
    };
    EXPECT_THAT(refusal_of("{"), HasSubstr("no usable JSON"));
    EXPECT_THAT(refusal_of("[1, 2]"), HasSubstr("no model"));
    EXPECT_THAT(refusal_of(std::string(100000, '[')), HasSubstr("no usable JSON"));
    EXPECT_THAT(refusal(set("/model/vocab", json::array())), HasSubstr("model.vocab"));
    EXPECT_THAT(refusal(set("/model/vocab/!", -1)), HasSubstr("\"!\" has the id -1"));
    EXPECT_THAT(refusal(set("/model/vocab/!", 0.5)), HasSubstr("\"!\" has the id 0.5"));
    EXPECT_THAT(refusal(set("/model/vocab/!", 4000000000)), HasSubstr("\"!\" has the id 4000000000"));
    EXPECT_THAT(refusal(set("/model/vocab/!", 1)), HasSubstr("have the same id 1"));
    EXPECT_THAT(refusal(set("/model/unk_token", "<nowhere>")),
                HasSubstr("unk_token is \"<nowhere>\", which is no token"));
    EXPECT_THAT(refusal(set("/model/merges", "a b")), HasSubstr("model.merges"));
    EXPECT_THAT(refusal(set("/model/merges/3", "abc")), HasSubstr("merge 3 is \"abc\""));
    EXPECT_THAT(refusal(set("/model/merges/3", "a b c")), HasSubstr("merge 3 is \"a b c\""));
    EXPECT_THAT(refusal(set("/model/merges/3", json::array({"a"}))), HasSubstr("merge 3 is a list"));
    EXPECT_THAT(refusal(set("/model/merges/3", "a zzz")), HasSubstr("merge 3 has \"zzz\""));
    EXPECT_THAT(refusal(set("/model/ignore_merges", 1)), HasSubstr("ignore_merges is 1"));
    EXPECT_THAT(refusal(set("/added_tokens/0/id", 5)), HasSubstr("has the id 5, which is that of"));
    EXPECT_THAT(refusal(set("/added_tokens/0/content", 5)), HasSubstr("content of an added token is 5"));
    EXPECT_THAT(refusal(set("/post_processor/processors/1/single", json::array())), HasSubstr("single"));
    EXPECT_THAT(refusal(set("/post_processor/processors/1/special_tokens", json::object())),
                HasSubstr("not one id for \"<|begin_of_text|>\""));
    EXPECT_THAT(refusal(set("/pre_tokenizer/pretokenizers/0/pattern/Regex", "(")), HasSubstr("the pattern \"(\""));
}

TEST_F(HostileTokenizerJson, EosMustBeInTheVocabulary) {
    directory_.write("tokenizer_config.json", R"({"eos_token": "<|nowhere|>"})");
    EXPECT_THAT(refusal([](json&) {}), HasSubstr("tokenizer_config.json: eos_token is \"<|nowhere|>\""));
    directory_.write("tokenizer_config.json", R"({"eos_token": 7})");
    EXPECT_THAT(refusal([](json&) {}), HasSubstr("eos_token is 7"));
}

}  // namespace
}  // namespace llama
