// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <nlohmann/json.hpp>

#include "edited_file.hpp"
#include "llama/evaluation/read_samples.hpp"
#include "llama/io/file.hpp"

// Any file is refused, or has tasks whose samples can be asked and scored; prompts are refused, or can be filled in.
namespace {

std::string valid_rows() {
    const nlohmann::json rows[] = {
        {{"input", "8 What is the special magic b? The special magic b"}, {"outputs", {"8"}}, {"index", 0}},
        {{"input", "A"}, {"outputs", {"b", "c"}}, {"answer_prefix", " d"}},
        {{"context", "e"}, {"question", "f"}, {"answer", {"g"}}, {"task", "qa_1"}, {"max_new_tokens", 3}},
        {{"context", "h"}, {"input", "i"}, {"answers", {"j"}}, {"dataset", "trec"}, {"all_classes", {"j", "k"}}},
        {{"context", "l"}, {"input", "m"}, {"answers", {"Paragraph 2"}}, {"dataset", "passage_retrieval_en"}},
    };
    std::string text;
    for (const nlohmann::json& row : rows) text += row.dump() + "\n";
    return text;
}

void check(const std::string& content, const llama::LongBenchPrompts& prompts, const std::string& reply) {
    for (const llama::TaskFile& task : llama::parse_samples(content, "niah/validation.jsonl", prompts)) {
        if (task.name.empty() || task.samples.empty()) std::abort();
        for (const llama::Sample& sample : task.samples) {
            const llama::Question& question = sample.questions.at(0);
            if (question.answers.empty() || question.most_tokens < 1 || sample.depth >= 1) std::abort();
            const double score = llama::score(task.metric, reply, question.answers, sample.classes);
            if (!(score >= 0 && score <= 1)) std::abort();
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid = valid_rows();
    static const llama::LongBenchPrompts prompts = {{"trec", {"{context}, {input}", 4}},
                                                    {"passage_retrieval_en", {"{input}, {context}", 4}}};
    if (size == 0) return 0;
    const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
    try {
        if (data[0] % 4 == 0) {
            check(rest, prompts, rest);
        } else if (data[0] % 4 == 1) {
            const fuzz::MemoryFile formats(nlohmann::json{{"trec", "{context}"}}.dump());
            const fuzz::MemoryFile lengths(fuzz::edited(R"({"trec": 64})", data + 1, size - 1));
            check(valid, llama::read_longbench_prompts(formats.path(), lengths.path()), "j");
        } else if (data[0] % 4 == 2) {
            const fuzz::MemoryFile formats(rest);
            const fuzz::MemoryFile lengths(R"({"trec": 64, "passage_retrieval_en": 32})");
            check(valid, llama::read_longbench_prompts(formats.path(), lengths.path()), "j");
        } else {
            check(fuzz::edited(valid, data + 1, size - 1), prompts, "8 j Paragraph 2");
        }
    } catch (const llama::FileError&) {
    }
    return 0;
}
