// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/json_file.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama::test {

inline std::string tokenizer_fixture(const std::string& name) {
    return std::string(FREQKV_FIXTURES_DIR) + "/tokenizers/" + name;
}

/// The text of all tokens, as a program that prints one after the other shows it.
inline std::string decode_all(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
    std::string text;
    Token previous = -1;
    for (const Token token : tokens) {
        text += tokenizer.decode(previous, token);
        previous = token;
    }
    return text;
}

/// Calls check(text) for each page of the fixtures, after its ids have been compared with those of the library
/// that the tokenizer `name` is made for.
template <class Check>
void expect_same_ids_on_all_pages(const Tokenizer& tokenizer, const std::string& name, const Check& check) {
    const nlohmann::json pages = read_json(tokenizer_fixture("pages.json"));
    ASSERT_FALSE(pages.at("pages").empty());
    for (const nlohmann::json& page : pages.at("pages")) {
        SCOPED_TRACE(name + ", page \"" + page.at("name").get<std::string>() + '"');
        const auto text = page.at("text").get<std::string>();
        EXPECT_EQ(tokenizer.encode(text), page.at(name).get<std::vector<Token>>());
        check(text);
    }
}

}  // namespace llama::test
