// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/evaluation/scores.hpp"
#include "llama/io/json_file.hpp"

namespace llama {
namespace {

using testing::ElementsAre;

double score_of(Metric metric, std::string_view reply, const std::vector<std::string>& references,
                const std::vector<std::string>& classes = {}) {
    return score(metric, reply, references, classes);
}

TEST(Scores, AreThoseOfTheBenchmarks) {
    static const std::map<std::string, Metric> metrics = {
        {"string_match_all", Metric::string_match_all},
        {"string_match_part", Metric::string_match_part},
        {"token_f1", Metric::token_f1},
        {"rouge_l", Metric::rouge_l},
        {"classification", Metric::classification},
        {"count", Metric::count},
        {"retrieval", Metric::retrieval},
        {"code_similarity", Metric::code_similarity},
        {"exact_number", Metric::exact_number},
    };
    std::map<std::string, int> cases;
    for (const nlohmann::json& fixture : read_json(FREQKV_FIXTURES_DIR "/scores.json")) {
        const auto name = fixture.at("metric").get<std::string>();
        const auto reply = fixture.at("reply").get<std::string>();
        // RULER rounds to hundredths of a percent.
        const double tolerance = name.starts_with("string_match") ? 0.5e-4 : 1e-12;
        EXPECT_NEAR(score_of(metrics.at(name), reply, fixture.at("references"), fixture.at("classes")),
                    fixture.at("score").get<double>(), tolerance)
            << name << " of \"" << reply << "\"";
        ++cases[name];
    }
    EXPECT_EQ(cases.size(), metrics.size());
    for (const auto& [name, count] : cases) EXPECT_GE(count, 10) << name;
}

TEST(Scores, WithoutReferencesIsZero) {
    for (const Metric metric :
         {Metric::string_match_all, Metric::string_match_part, Metric::token_f1, Metric::rouge_l,
          Metric::classification, Metric::count, Metric::retrieval, Metric::code_similarity, Metric::exact_number}) {
        EXPECT_EQ(score_of(metric, "", {}), 0) << static_cast<int>(metric);
    }
}

// A reply may end within a character.
TEST(Scores, BytesThatAreNoTextAreCharacters) {
    EXPECT_EQ(score_of(Metric::string_match_all, "k\xc3\xa9 7\xe2\x82", {"K\xc3\x89 7", "7\xef\xbf\xbd\xef\xbf\xbd"}),
              1);
    EXPECT_EQ(score_of(Metric::token_f1, "\xff a b", {"b"}), 2.0 / 3);
    EXPECT_EQ(score_of(Metric::code_similarity, "abc\xe2\x82", {"abc"}), 0.75);
    EXPECT_EQ(score_of(Metric::count, "7\xd9", {"7"}), 1);
}

TEST(Scores, LowerCaseIsByCharacter) {
    EXPECT_EQ(
        score_of(Metric::string_match_all, "\xce\x9f\xce\x94\xce\x9f\xce\xa3", {"\xce\xbf\xce\xb4\xce\xbf\xcf\x83"}),
        1);
    EXPECT_EQ(score_of(Metric::string_match_all, "\xc4\xb0", {"i"}), 1);
}

// The original scores 0 here, for its recursion is too deep.
TEST(Scores, LongSentencesAreCompared) {
    std::string reply;
    for (int i = 0; i < 3000; ++i) reply += "w" + std::to_string(i) + " ";
    EXPECT_NEAR(score_of(Metric::rouge_l, reply, {reply}), 1, 1e-8);
}

TEST(Scores, RetrievalNeedsTheNumberOfAParagraph) {
    EXPECT_EQ(score_of(Metric::retrieval, "12", {"12"}), 0);
    EXPECT_EQ(score_of(Metric::retrieval, "12", {"Paragraph"}), 0);
}

TEST(FirstLine, IsTheFirstThatIsNotEmpty) {
    EXPECT_EQ(first_line("one\ntwo"), "one");
    EXPECT_EQ(first_line("\n\none\n"), "one");
    EXPECT_EQ(first_line("\n \none"), " ");
    EXPECT_EQ(first_line("one"), "one");
    EXPECT_EQ(first_line("\n\n"), "");
    EXPECT_EQ(first_line(""), "");
}

TEST(LongBenchTasks, HaveTheirKinds) {
    std::vector<std::string_view> untemplated;
    std::vector<std::string_view> first_lines;
    std::map<Metric, int> metrics;
    for (const LongBenchTask& task : longbench_tasks()) {
        if (!task.chat_template) untemplated.push_back(task.name);
        if (task.first_line_only) first_lines.push_back(task.name);
        ++metrics[task.metric];
    }
    EXPECT_THAT(untemplated, ElementsAre("trec", "triviaqa", "samsum", "lcc", "repobench-p"));
    EXPECT_THAT(first_lines, ElementsAre("trec", "triviaqa", "samsum"));
    EXPECT_EQ(longbench_tasks().size(), 16U);
    EXPECT_EQ(metrics[Metric::token_f1], 7);
    EXPECT_EQ(metrics[Metric::rouge_l], 4);
    EXPECT_EQ(metrics[Metric::code_similarity], 2);
}

}  // namespace
}  // namespace llama
