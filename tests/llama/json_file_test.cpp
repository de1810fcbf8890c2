// SPDX-License-Identifier: MIT
#include "llama/io/json_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

json parse(const std::string& text, std::span<const JsonMembers> streamed = {}) {
    return parse_json(std::as_bytes(std::span(text)), "some.json", streamed);
}

std::string refusal(const std::string& text) {
    return test::refusal_of([&] { parse(text); });
}

TEST(JsonFile, ValuesAreThoseOfTheLibrary) {
    for (const char* const text :
         {"null", "true", "-7", "18446744073709551615", "0.1", "1e308", R"("a\u00e9\ud83d\ude00\n")", "[]", "{}",
          R"([1,[2,[3,{}],"x"],{"a":{"b":[null,false]},"":1}])", " {\"a\" : [ ] }\n",
          R"({"b":1,"a":2,"long key of a node":"long text of a string"})"}) {
        EXPECT_EQ(parse(text), json::parse(text)) << text;
    }
}

TEST(JsonFile, WhatIsNoJsonIsRefusedInOneShortLine) {
    for (const char* const text : {"", "{", "[1,]", "{\"a\":1,}", "nul", "01", "1 2", "[1}", "\"\xff\"", "\"\x01\"",
                                   "[1e999]", "{1:2}", "{}x"}) {
        EXPECT_THAT(refusal(text), StartsWith("some.json: no usable JSON: ")) << text;
    }
    EXPECT_LT(refusal("[" + std::string(2'000'000, '1') + "]").size(), 300u) << "a number that overflows";
    EXPECT_LT(refusal("\"" + std::string(2'000'000, 'x')).size(), 300u);
    EXPECT_THAT(refusal("\"\x1b[2J\""), AllOf(HasSubstr("at byte"), testing::Not(HasSubstr("\x1b"))));
}

// The parser's messages repeat what they are about.
TEST(JsonFile, TextsAndNumbersThatDoNotEndAreRefusedBeforeTheyAreRead) {
    EXPECT_THAT(refusal("[1,\"" + std::string(1'000'000, 'x')), HasSubstr("a text that does not end, begun at byte 3"));
    EXPECT_THAT(refusal(R"(["a\",1])"), HasSubstr("a text that does not end, begun at byte 1"));
    EXPECT_EQ(refusal(R"(["a\\",1,"\"","\u00e9"])"), "accepted");
    EXPECT_THAT(refusal("[" + std::string(5000, '1') + "]"),
                HasSubstr("a number or name that does not end at byte 4097"));
    EXPECT_THAT(refusal("[\"a\nb\"]"), HasSubstr("a control character at byte 3"));
    EXPECT_THAT(refusal("[\"\xc3\xa9\xff\"]"), HasSubstr("no UTF-8 at byte 4"));
    EXPECT_THAT(refusal("[\"a\\"), HasSubstr("a text that does not end"));
}

TEST(JsonFile, NothingFollowsANulCharacter) {
    EXPECT_THAT(refusal(std::string("{}\0 anything", 12)), HasSubstr("a control character at byte 2"));
    EXPECT_THAT(refusal(std::string("{}\0", 3)), HasSubstr("a control character at byte 2"));
    EXPECT_EQ(parse("\"a\\u0000b\""), std::string("a\0b", 3));
}

TEST(JsonFile, KeysComeOnce) {
    EXPECT_THAT(refusal(R"({"a":1,"b":{"c":1},"a":2})"), HasSubstr("an object has the key \"a\" twice"));
    EXPECT_THAT(refusal(R"([{"x":{"c\n":1,"c\u000a":1}}])"), HasSubstr("an object has the key \"c\\x0a\" twice"));
    EXPECT_EQ(refusal(R"({"a":{"a":{"a":1}},"b":{"a":1}})"), "accepted");
}

TEST(JsonFile, DepthAndKeysAreBounded) {
    EXPECT_EQ(refusal(std::string(32, '[') + std::string(32, ']')), "accepted");
    EXPECT_THAT(refusal(std::string(33, '[') + std::string(33, ']')), HasSubstr("nested deeper than 32 levels"));
    EXPECT_THAT(refusal(std::string(1'000'000, '[')), HasSubstr("nested deeper"));
    EXPECT_EQ(refusal("{\"" + std::string(65536, 'k') + "\":1}"), "accepted");
    EXPECT_THAT(refusal("{\"" + std::string(65537, 'k') + "\":1}"), HasSubstr("a key of 65537 bytes"));
}

TEST(JsonFile, ManySmallValuesAreRefusedBeforeTheyTakeTheMachinesMemory) {
    const auto many = [](const std::string& value, int count) {
        std::string text = "[" + value;
        for (int i = 1; i < count; ++i) text += "," + value;
        return text + "]";
    };
    for (const char* const value : {"0", "{}", "[]", "\"\"", "[[]]", "{\"\":0}"}) {
        EXPECT_THAT(refusal(many(value, 2'000'000)), HasSubstr("would take more than")) << value;
    }
    EXPECT_EQ(refusal(many("0.1234567890123456", 1'000'000)), "accepted");
    EXPECT_EQ(refusal(many("\"a text of fifty bytes, as names of files often have\"", 200'000)), "accepted");
}

// The processor's seconds for that many records and that many tensors.
double seconds_for(int count) {
    std::string records = "[";
    std::string tensors = "{";
    for (int i = 0; i < count; ++i) {
        const std::string number = std::to_string(i);
        records += std::string(i > 0 ? "," : "") + R"({"instruction":"a","output":"b"})";
        tensors += (i > 0 ? ",\"" : "\"") + number + R"(":{"shape":[1,2]})";
    }
    const std::clock_t begin = std::clock();
    int taken = 0;
    const auto take = [&](const std::string&, const json& value) { return value.is_object() && ++taken > 0; };
    const JsonMembers elements[] = {{"", JsonMembers::Of::array, take}};
    EXPECT_EQ(parse(records + "]", elements), json::array());
    EXPECT_EQ(taken, count);
    const JsonMembers members[] = {{"", JsonMembers::Of::object, take}};
    EXPECT_EQ(parse(tensors + "}", members), json::object());
    EXPECT_EQ(taken, 2 * count);
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

// Where every end of an object goes over all that came before it, 16 times the members take 256 times as long. A ratio
// of two runs, and only the best of many, for a busy machine may delay each of them.
TEST(JsonFile, TimeIsLinear) {
    double ratio = 1e9;
    for (int attempt = 0; attempt < 20 && ratio > 64; ++attempt) {
        ratio = std::min(ratio, seconds_for(80'000) / std::max(seconds_for(5'000), 1e-4));
    }
    EXPECT_LE(ratio, 64);
}

class Streamed {
public:
    json parse(const std::string& text, const std::string& place, JsonMembers::Of of) {
        const auto take = [this](const std::string& key, const json& value) {
            for (const auto& [earlier, other] : members) {
                if (!key.empty() && earlier == key) return false;
            }
            members.emplace_back(key, value.dump());
            return true;
        };
        const JsonMembers streamed[] = {{place, of, take}};
        return llama::parse_json(std::as_bytes(std::span(text)), "some.json", streamed);
    }

    std::vector<std::pair<std::string, std::string>> members;
};

TEST(JsonFile, MembersAreHandedOverOneByOne) {
    constexpr auto array = JsonMembers::Of::array;
    constexpr auto object = JsonMembers::Of::object;
    Streamed file;
    EXPECT_EQ(file.parse(R"({"b":[1,{"a":[2]}],"a":"x"})", "", object), json::object());
    EXPECT_THAT(file.members, ElementsAre(Pair("b", R"([1,{"a":[2]}])"), Pair("a", "\"x\"")));

    Streamed merges;
    EXPECT_EQ(merges.parse(R"({"x":[1],"model":{"y":{"merges":[3]},"merges":["a b",["c","d"]],"z":2},"merges":[4]})",
                           "/model/merges", array),
              json::parse(R"({"x":[1],"model":{"y":{"merges":[3]},"merges":[],"z":2},"merges":[4]})"));
    EXPECT_THAT(merges.members, ElementsAre(Pair("", "\"a b\""), Pair("", R"(["c","d"])")));

    Streamed other;
    EXPECT_EQ(other.parse(R"({"a":{"b":1}})", "/a", array), json::parse(R"({"a":{"b":1}})")) << "of another kind";
    EXPECT_EQ(other.parse("[[1],[2]]", "/", array), json::parse("[[1],[2]]"));
    EXPECT_TRUE(other.members.empty());
    EXPECT_EQ(other.parse("[[1],[],2]", "", array), json::array());
    EXPECT_THAT(other.members, ElementsAre(Pair("", "[1]"), Pair("", "[]"), Pair("", "2")));
}

TEST(JsonFile, WhoTakesMembersSaysWhichKeysHeHas) {
    Streamed file;
    EXPECT_THAT(test::refusal_of([&] { file.parse(R"({"a":1,"b":2,"a":3})", "", JsonMembers::Of::object); }),
                HasSubstr("an object has the key \"a\" twice"));
    const auto take = [](const std::string&, const json&) -> bool { throw std::out_of_range("its own"); };
    const JsonMembers elements[] = {{"", JsonMembers::Of::array, take}};
    EXPECT_THROW(parse("[1]", elements), std::out_of_range);
}

TEST(JsonFile, FilesAreReadUpToTheirLimit) {
    const test::TemporaryDirectory directory;
    const std::string path = directory.write("x.json", "[1,2]\n");
    EXPECT_EQ(read_json(path), json::parse("[1,2]"));
    EXPECT_THAT(test::refusal_of([&] { read_json(path, 5); }), HasSubstr("6 bytes; at most 5 are read"));
}

}  // namespace
}  // namespace llama
