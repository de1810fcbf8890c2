// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "freqkv/error.hpp"
#include "llama/evaluation/read_samples.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::refusal_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string jsonl(const std::vector<json>& rows) {
    std::string text;
    for (const json& row : rows) text += row.dump() + "\n";
    return text;
}

json ruler_row() { return {{"index", 0}, {"input", "Words."}, {"outputs", {"7"}}, {"length", 99}}; }

json kvpress_row() {
    return {{"context", "Some words.\n"}, {"question", "Which? "}, {"answer_prefix", "They are"},
            {"answer", {"b", "c"}},       {"task", "vt"},          {"max_new_tokens", 30}};
}

json longbench_row(const std::string& dataset) {
    return {
        {"input", "Who?"},  {"context", "A {input} text."}, {"answers", {"She", "Her"}}, {"length", 4}, {"_id", "0a"},
        {"language", "en"}, {"all_classes", nullptr},       {"dataset", dataset}};
}

LongBenchPrompts made_up_prompts() {
    return {{"qasper", {"Read {{this}}: {context} Then answer: {input} -", 128}},
            {"gov_report", {"{context}\nIn short:", 512}},
            {"trec", {"{context}\n{input}", 64}},
            {"passage_retrieval_en", {"{input}: {context}", 32}}};
}

Sample only_sample(const json& row, const std::string& path, const LongBenchPrompts& prompts = {}) {
    const std::vector<TaskFile> tasks = parse_samples(jsonl({row}), path, prompts);
    EXPECT_EQ(tasks.size(), 1U);
    EXPECT_EQ(tasks.at(0).samples.size(), 1U);
    EXPECT_EQ(tasks.at(0).samples.at(0).questions.size(), 1U);
    return tasks.at(0).samples.at(0);
}

std::string refusal_of_row(json row, const std::string& key, const json& value) {
    row[key] = value;
    return refusal_of([&] { parse_samples("\n" + jsonl({row}), "dir/vt.jsonl", made_up_prompts()); });
}

TEST(ReadSamples, SplitsTextsOfRulerAtTheLastQuestion) {
    const std::string example = "Question: Find all variables that are assigned the value 1 above. Answer: A\n";
    json row = ruler_row();
    row["input"] = example + "VAR B = 2\n" + example;
    row["outputs"] = {"B", "C"};
    Sample sample = only_sample(row, "somewhere/vt/validation.jsonl");
    EXPECT_EQ(sample.context, example + "VAR B = 2\n");
    EXPECT_EQ(sample.questions[0].text, "Question: Find all variables that are assigned the value 1 above. ");
    EXPECT_EQ(sample.questions[0].answer_prefix, "Answer: A\n");
    EXPECT_THAT(sample.questions[0].answers, ElementsAre("B", "C"));
    EXPECT_EQ(sample.questions[0].most_tokens, 30);
    EXPECT_EQ(sample.depth, -1);
    EXPECT_THAT(sample.classes, IsEmpty());

    row["answer_prefix"] = " Answer:";
    sample = only_sample(row, "somewhere/vt/validation.jsonl");
    EXPECT_EQ(sample.questions[0].text, example);
    EXPECT_EQ(sample.questions[0].answer_prefix, " Answer:");
}

TEST(ReadSamples, KnowsTheQuestionsOfRuler) {
    struct Case {
        const char *name, *question, *prefix;
        Index most_tokens;
        Metric metric;
    };
    for (const auto& [name, question, prefix, most_tokens, metric] : {
             Case{"niah_single_2", "What is the special magic number for a-b? ", "The special magic number", 128,
                  Metric::string_match_all},
             Case{"niah_multivalue", "What are all the special magic numbers? ", "The special magic numbers", 128,
                  Metric::string_match_all},
             Case{"cwe", "Question: What are the 10 most common words in the above list? ", "Answer: The", 120,
                  Metric::string_match_all},
             Case{"fwe", "Question: Do not provide any explanation. Which? ", "Answer: They", 50,
                  Metric::string_match_all},
             Case{"qa_2", "Answer the question based on the given documents. Question: who? ", "Answer:", 32,
                  Metric::string_match_part},
         }) {
        json row = ruler_row();
        row["input"] = std::string("One. ") + question + "Two. " + question + prefix;
        const std::vector<TaskFile> tasks = parse_samples(jsonl({row, row}), std::string(name) + ".jsonl");
        ASSERT_EQ(tasks.size(), 1U);
        EXPECT_EQ(tasks[0].name, name);
        EXPECT_EQ(tasks[0].metric, metric);
        EXPECT_TRUE(tasks[0].chat_template);
        EXPECT_FALSE(tasks[0].first_line_only);
        ASSERT_EQ(tasks[0].samples.size(), 2U);
        for (const Sample& sample : tasks[0].samples) {
            EXPECT_EQ(sample.context, std::string("One. ") + question + "Two. ");
            EXPECT_EQ(sample.questions.at(0).text, question);
            EXPECT_EQ(sample.questions.at(0).answer_prefix, prefix);
            EXPECT_EQ(sample.questions.at(0).most_tokens, most_tokens);
        }
    }
}

TEST(ReadSamples, WithoutAQuestionAllIsContext) {
    const Sample sample = only_sample(ruler_row(), "cwe.jsonl");
    EXPECT_EQ(sample.context, "Words.");
    EXPECT_EQ(sample.questions[0].text, "");
    EXPECT_EQ(sample.questions[0].answer_prefix, "");
}

TEST(ReadSamples, NeedlesHaveADepth) {
    json row = ruler_row();
    row["input"] = "12345678What is the special magic? ";
    EXPECT_EQ(only_sample(row, "niah_single_1.jsonl").depth, 0.75);
    row["outputs"] = {"7", "8"};
    EXPECT_EQ(only_sample(row, "niah_multivalue.jsonl").depth, -1);
    row["outputs"] = {"0"};
    EXPECT_EQ(only_sample(row, "niah_single_1.jsonl").depth, -1);
    row["input"] = "What is the special magic 0? ";
    EXPECT_EQ(only_sample(row, "niah_single_1.jsonl").depth, -1);
}

TEST(ReadSamples, TakesRulersTaskFromTheName) {
    const std::string content = jsonl({ruler_row()});
    EXPECT_EQ(parse_samples(content, "qa_1/niah_single_3.jsonl").at(0).name, "niah_single_3");
    EXPECT_EQ(parse_samples(content, "/a/qa_1/test.jsonl").at(0).name, "qa_1");
    EXPECT_THAT(refusal_of([&] { parse_samples(content, "/a/b/qasper.jsonl"); }),
                "/a/b/qasper.jsonl: rows of RULER, whose task is the name of the file or of its directory: niah..., "
                "vt..., cwe..., fwe..., qa...");
}

TEST(ReadSamples, ReadsRowsOfKvpress) {
    json other = kvpress_row();
    other["task"] = "qa_1";
    const std::vector<TaskFile> tasks = parse_samples(jsonl({kvpress_row(), other, kvpress_row()}), "rows.jsonl");
    ASSERT_EQ(tasks.size(), 2U);
    EXPECT_EQ(tasks[0].name, "vt");
    EXPECT_EQ(tasks[0].metric, Metric::string_match_all);
    EXPECT_EQ(tasks[0].samples.size(), 2U);
    EXPECT_EQ(tasks[1].name, "qa_1");
    EXPECT_EQ(tasks[1].metric, Metric::string_match_part);
    const Sample& sample = tasks[1].samples.at(0);
    EXPECT_EQ(sample.context, "Some words.\n");
    EXPECT_EQ(sample.questions.at(0).text, "Which? ");
    EXPECT_EQ(sample.questions.at(0).answer_prefix, "They are");
    EXPECT_THAT(sample.questions.at(0).answers, ElementsAre("b", "c"));
    EXPECT_EQ(sample.questions.at(0).most_tokens, 30);
}

TEST(ReadSamples, FillsInPromptsOfLongBench) {
    const Sample sample = only_sample(longbench_row("qasper"), "any.jsonl", made_up_prompts());
    EXPECT_EQ(sample.context, "Read {this}: A {input} text.");
    EXPECT_EQ(sample.questions[0].text, " Then answer: Who? -");
    EXPECT_EQ(sample.questions[0].answer_prefix, "");
    EXPECT_THAT(sample.questions[0].answers, ElementsAre("She", "Her"));
    EXPECT_EQ(sample.questions[0].most_tokens, 128);

    json row = longbench_row("passage_retrieval_en");
    row["answers"] = {"Paragraph 12"};
    EXPECT_EQ(only_sample(row, "any.jsonl", made_up_prompts()).context, "Who?: A {input} text.");
    EXPECT_EQ(only_sample(row, "any.jsonl", made_up_prompts()).questions[0].text, "");
    EXPECT_EQ(only_sample(longbench_row("gov_report_e"), "any.jsonl", made_up_prompts()).questions[0].text,
              "\nIn short:");
}

TEST(ReadSamples, KnowsTheTasksOfLongBench) {
    json row = longbench_row("trec");
    row["all_classes"] = {"city", "date"};
    const std::vector<TaskFile> tasks =
        parse_samples(jsonl({longbench_row("qasper"), row, longbench_row("qasper_e")}), "a.jsonl", made_up_prompts());
    ASSERT_EQ(tasks.size(), 3U);
    EXPECT_EQ(tasks[0].metric, Metric::token_f1);
    EXPECT_TRUE(tasks[0].chat_template);
    EXPECT_FALSE(tasks[0].first_line_only);
    EXPECT_EQ(tasks[1].name, "trec");
    EXPECT_EQ(tasks[1].metric, Metric::classification);
    EXPECT_FALSE(tasks[1].chat_template);
    EXPECT_TRUE(tasks[1].first_line_only);
    EXPECT_THAT(tasks[1].samples.at(0).classes, ElementsAre("city", "date"));
    EXPECT_EQ(tasks[2].name, "qasper_e");
    EXPECT_EQ(tasks[2].metric, Metric::token_f1);
}

TEST(ReadSamples, RefusesRows) {
    const std::string place = "dir/vt.jsonl, line 2: ";
    EXPECT_EQ(refusal_of_row(ruler_row(), "input", 5), place + "input is 5, must be a string");
    EXPECT_EQ(refusal_of_row(ruler_row(), "input", nullptr), place + "input is missing");
    EXPECT_EQ(refusal_of_row(ruler_row(), "outputs", "7"), place + "outputs is \"7\", must be a list of strings");
    EXPECT_EQ(refusal_of_row(ruler_row(), "outputs", {"7", 8}), place + "outputs[1] is 8, must be a string");
    EXPECT_EQ(refusal_of_row(ruler_row(), "outputs", json::array()),
              place + "outputs must be a list of at least one string");
    EXPECT_EQ(refusal_of_row(ruler_row(), "outputs", std::vector<std::string>(4097, "7")),
              place + "outputs has 4097 strings, at most 4096 are read");
    EXPECT_EQ(refusal_of_row(ruler_row(), "outputs", {std::string(65537, '7')}),
              place + "outputs[0] has 65537 bytes, at most 65536 are read");
    EXPECT_EQ(refusal_of_row(kvpress_row(), "max_new_tokens", 0), place + "max_new_tokens is 0, must be 1 to 65536");
    EXPECT_EQ(refusal_of_row(kvpress_row(), "max_new_tokens", 65537),
              place + "max_new_tokens is 65537, must be 1 to 65536");
    EXPECT_EQ(refusal_of_row(kvpress_row(), "max_new_tokens", nullptr), place + "max_new_tokens is missing");
    EXPECT_EQ(refusal_of_row(kvpress_row(), "task", "niah\n"),
              place + "task is \"niah\\x0a\", must be one of RULER's: niah..., vt..., cwe..., fwe..., qa...");
    EXPECT_THAT(refusal_of_row(kvpress_row(), "task", "vt" + std::string(63, 'x')),
                HasSubstr("must be one of RULER's"));
    EXPECT_THAT(refusal_of_row(longbench_row("qasper"), "dataset", "squad"),
                AllOf(HasSubstr("dataset is \"squad\", must be one of LongBench's: narrativeqa, qasper,"),
                      HasSubstr(", repobench-p")));
    EXPECT_EQ(
        refusal_of_row(longbench_row("qasper"), "dataset", "vcsum"),
        place + "dataset is \"vcsum\", a Chinese task: only English ones are scored, the others need jieba's words");
    EXPECT_EQ(refusal_of_row(longbench_row("qasper"), "dataset", "lcc"),
              place + "dataset is \"lcc\", for which no prompt of LongBench was given");
    EXPECT_EQ(refusal_of_row(longbench_row("trec"), "all_classes", json::array()),
              place + "all_classes must be a list of at least one string");
    EXPECT_EQ(refusal_of_row(longbench_row("passage_retrieval_en"), "answers", {"Paragraph 1", "2"}),
              place + "answers is \"2\", must name a paragraph, such as \"Paragraph 1\"");
}

TEST(ReadSamples, RefusesFiles) {
    const auto refusal = [](const std::string& content) {
        return refusal_of([&] { parse_samples(content, "vt.jsonl"); });
    };
    EXPECT_EQ(refusal(""), "vt.jsonl: it has no rows");
    EXPECT_EQ(refusal("\n \r\n\n"), "vt.jsonl: it has no rows");
    EXPECT_EQ(refusal("[]"), "vt.jsonl, line 1: no JSON object, which each line has to be");
    EXPECT_EQ(refusal("{}"),
              "vt.jsonl, line 1: it has none of the keys outputs (RULER), answers (LongBench) and answer (kvpress)");
    EXPECT_THAT(refusal(jsonl({ruler_row()}) + "\n{\"outputs\":"), HasSubstr("vt.jsonl, line 3: no usable JSON"));
    std::string many;
    for (int i = 0; i <= 65536; ++i) many += "{\"input\":\"\",\"outputs\":[\"\"]}\n";
    EXPECT_EQ(refusal(many), "vt.jsonl, line 65537: at most 65536 rows are read");
    std::vector<json> rows(257, kvpress_row());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i]["task"] = "vt" + std::to_string(i);
    EXPECT_EQ(refusal(jsonl(rows)), "vt.jsonl, line 257: at most 256 tasks are read");
}

TEST(ReadSamples, ReadsFiles) {
    const test::TemporaryDirectory directory;
    const std::string path = directory.write("fwe.jsonl", jsonl({ruler_row()}) + "\r\n" + ruler_row().dump() + "\r\n");
    EXPECT_EQ(read_samples(path).at(0).samples.size(), 2U);
    EXPECT_THAT(refusal_of([&] { read_samples(directory / "none"); }), HasSubstr("No such file"));
}

TEST(LongBenchPrompts, AreReadFromItsFiles) {
    const test::TemporaryDirectory directory;
    const auto read = [&](const json& prompts, const json& lengths) {
        return read_longbench_prompts(directory.write("prompts", prompts.dump()),
                                      directory.write("lengths", lengths.dump()));
    };
    const LongBenchPrompts prompts =
        read({{"qasper", "{context}?"}, {"vcsum", "{"}}, {{"qasper", 128}, {"vcsum", "x"}});
    ASSERT_EQ(prompts.size(), 1U);
    EXPECT_EQ(prompts.at("qasper").format, "{context}?");
    EXPECT_EQ(prompts.at("qasper").most_tokens, 128);

    for (const std::string format : {"{input}", "{context}{context}", "{context}{input}{input}", "{context}{",
                                     "}{context}", "{context} {length}", "{ context}", ""}) {
        EXPECT_EQ(
            refusal_of([&] { read({{"lcc", format}}, {{"lcc", 64}}); }),
            (directory / "prompts") + ": lcc is \"" + format +
                "\", must be at most 4096 bytes with {context} once, {input} at most once and no other braces but {{ "
                "and }}");
    }
    const json longest = {{"lcc", "{context}" + std::string(4096 - 9, '-')}};
    EXPECT_EQ(read(longest, {{"lcc", 64}}).size(), 1U);
    const json longer = {{"lcc", "{context}" + std::string(4096 - 8, '-')}};
    EXPECT_THAT(refusal_of([&] { read(longer, {{"lcc", 64}}); }), HasSubstr("must be at most 4096 bytes"));
    const json prompt = {{"lcc", "{context}"}};
    EXPECT_EQ(refusal_of([&] { read(prompt, json::object()); }), (directory / "lengths") + ": lcc is missing");
    EXPECT_EQ(refusal_of([&] { read(prompt, {{"lcc", 0}}); }),
              (directory / "lengths") + ": lcc is 0, must be 1 to 65536");
    EXPECT_THAT(refusal_of([&] { read(json::array(), json::object()); }), HasSubstr("no JSON object"));
}

TEST(CutMiddle, LeavesTheFirstAndTheLastHalf) {
    std::vector<Token> tokens(10);
    std::iota(tokens.begin(), tokens.end(), 0);
    EXPECT_EQ(cut_middle(tokens, 0, 10), tokens);
    EXPECT_EQ(cut_middle(tokens, 3, 13), tokens);
    EXPECT_THAT(cut_middle(tokens, 0, 6), ElementsAre(0, 1, 2, 7, 8, 9));
    EXPECT_THAT(cut_middle(tokens, 0, 7), ElementsAre(0, 1, 2, 7, 8, 9));
    EXPECT_THAT(cut_middle(tokens, 2, 8), ElementsAre(0, 1, 2, 3, 8, 9));
    EXPECT_THAT(cut_middle(tokens, 4, 8), ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(cut_middle(tokens, 6, 8), ElementsAre(0, 1));
    EXPECT_THAT(cut_middle(tokens, 8, 8), IsEmpty());
    EXPECT_THAT(cut_middle(tokens, 0, 1), IsEmpty());
    EXPECT_THROW(cut_middle(tokens, 9, 8), freqkv::Error);
    EXPECT_THROW(cut_middle(tokens, -1, 8), freqkv::Error);
}

}  // namespace
}  // namespace llama
