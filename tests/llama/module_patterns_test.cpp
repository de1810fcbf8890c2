// SPDX-License-Identifier: MIT
#include "llama/formats/module_patterns.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "llama/formats/adapter_config.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using testing::HasSubstr;
using Numbers = std::vector<std::pair<std::string, double>>;

const std::string module = "model.layers.10.self_attn.q_proj";

std::optional<double> found(const Numbers& numbers) { return ModulePatterns("f", "p", numbers).find(module); }

bool fits(const std::string& key) { return found({{key, 1}}).has_value(); }

std::string refusal(const Numbers& numbers) {
    return test::refusal_of([&] { found(numbers); });
}

// What Python's re.match(rf"(.*\.)?({key})$", module) says.
TEST(ModulePatterns, FitAsInPeft) {
    for (const char* const key :
         {"q_proj", "self_attn.q_proj", "model.layers.10.self_attn.q_proj", "^model.layers.10.self_attn.q_proj",
          "q_proj$", "q.proj", "^model.layers.*", ".*q_proj", R"(layers\.\d+\.self_attn\.q_proj)", "[qk]_proj",
          "(q|k|v)_proj", "k_proj|q_proj", "(?:mlp|self_attn).q_proj", R"(layers\.(?!0\.)\d+\..*)", ".+", "q_proj|"}) {
        EXPECT_TRUE(fits(key)) << key;
    }
    for (const char* const key : {"proj", "q_pro", "^q_proj", "^self_attn.q_proj", "attn.q_proj", "k_proj", "Q_proj",
                                  "", "^", "$", "layers", R"(layers\.\d\.self_attn\.q_proj)", "_proj",
                                  "x.model.layers.10.self_attn.q_proj", "(?!q)[a-z]_proj", "[kv]_proj"}) {
        EXPECT_FALSE(fits(key)) << key;
    }
}

TEST(ModulePatterns, TheFirstThatFitsCounts) {
    EXPECT_EQ(found({{"k_proj", 1}, {"q_proj", 2}, {".*q_proj", 3}}), 2);
    EXPECT_EQ(found({{"k_proj", 1}, {".*q_proj", 3}, {"q_proj", 2}}), 3);
    EXPECT_EQ(found({{"k_proj", 1}}), std::nullopt);
    EXPECT_EQ(found({}), std::nullopt);
}

TEST(ModulePatterns, TheOrderIsThatOfTheFile) {
    const test::TemporaryDirectory directory;
    const auto rank = [&](const std::string& patterns) {
        const std::string config = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 3, "rank_pattern": )" + patterns +
                                   R"(, "eva_config": {"zz": 7}})";
        return AdapterConfig(directory.write("adapter_config.json", config)).rank(module);
    };
    EXPECT_EQ(rank(R"({"q_proj": 5, "^model.*": 4})"), 5);
    EXPECT_EQ(rank(R"({"^model.*": 4, "q_proj": 5})"), 4);
    EXPECT_EQ(rank(R"({"zz": 9})"), 2);
    EXPECT_EQ(rank("null"), 2);
    EXPECT_EQ(rank("{}"), 2);
}

TEST(ModulePatterns, WhatPythonAndPcreReadDifferentlyIsRefused) {
    EXPECT_EQ(refusal({{"(?R)", 1}}),
              "f: the key \"(?R)\" of p has a group that begins with \"(?R\", which is not supported");
    for (const char* const key : {"(?i)q_proj", "(*LIMIT_MATCH=9)q", "(?#x)q", "(?P>x)", "(?1)"}) {
        EXPECT_THAT(refusal({{key, 1}}), HasSubstr("which is not supported")) << key;
    }
    for (const char* const key : {R"(\Kq_proj)", R"(q_proj\Z)", R"(\Qx\E)", R"(\p{L})", R"(\Cx)", R"((q)\1)", "x\\"}) {
        EXPECT_THAT(refusal({{key, 1}}), HasSubstr("has the escape")) << key;
    }
    for (const char* const key : {"[[:alpha:]]_proj", "a{,3}", "[]a]", "[^]a]"}) {
        EXPECT_THAT(refusal({{key, 1}}), HasSubstr("which is not supported")) << key;
    }
    for (const char* const key : {"(q_proj", "q_proj)", "[q", "*q_proj", "a{2,1}"}) {
        EXPECT_THAT(refusal({{key, 1}}), HasSubstr("is no regular expression")) << key;
    }
}

TEST(ModulePatterns, AreBounded) {
    EXPECT_THAT(refusal({{"(a|b|c|[a-z_.0-9]|.)+(x+x+)+y", 1}}),
                HasSubstr("fails on \"model.layers.10.self_attn.q_proj\": m"));
    EXPECT_THAT(refusal({{std::string(5000, '*'), 1}}), HasSubstr("is longer than 4096 bytes"));
    Numbers names(65536, {"k_proj", 1});
    EXPECT_EQ(found(names), std::nullopt);
    names.emplace_back("q_proj", 2);
    EXPECT_EQ(refusal(names), "f: p has 65537 keys, must be at most 65536");
    EXPECT_EQ(refusal(Numbers(257, {".*k_proj", 1})), "f: p has 257 regular expressions, must be at most 256");
}

}  // namespace
}  // namespace llama
