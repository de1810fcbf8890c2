// SPDX-License-Identifier: MIT
#include "llama/evaluation/read_samples.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "freqkv/error.hpp"
#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"
#include "llama/io/visible_text.hpp"

namespace llama {

namespace {

using nlohmann::json;

constexpr std::size_t most_bytes = std::size_t{2} << 30;
constexpr std::size_t most_rows = std::size_t{1} << 16;
constexpr std::size_t most_tasks = 256;
constexpr std::size_t most_strings = 4096;
constexpr std::size_t longest_string = std::size_t{1} << 16;
constexpr std::size_t longest_prompt = 4096;
constexpr std::size_t longest_name = 64;
constexpr Index longest_reply = Index{1} << 16;

// RULER's tasks by the letters that their names begin with, and what finds question and answer in a text of one.
struct RulerTask {
    std::string_view name;
    Metric metric;
    Index most_tokens;
    std::string_view questions[2];  // the other is for one needle; "": none
    std::string_view answer;
};

constexpr RulerTask ruler_tasks[] = {
    {"niah",
     Metric::string_match_all,
     128,
     {"What are all the special magic", "What is the special magic"},
     "The special magic"},
    {"vt", Metric::string_match_all, 30, {"Question: Find all variables that are assigned the value", ""}, "Answer:"},
    {"cwe", Metric::string_match_all, 120, {"Question: What are the 10 most common words in", ""}, "Answer:"},
    {"fwe", Metric::string_match_all, 50, {"Question: Do not provide any explanation.", ""}, "Answer:"},
    {"qa", Metric::string_match_part, 32, {"Answer the question based on the given documents.", ""}, "Answer:"},
};

constexpr std::string_view chinese_tasks[] = {"multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh"};

// Null if there is none, or if the name cannot be shown.
const RulerTask* find_ruler_task(std::string_view name) {
    if (visible(name, longest_name) != name) return nullptr;
    const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
    const std::string_view letters(name.begin(), std::find_if_not(name.begin(), name.end(), is_letter));
    const auto* const found = std::find_if(std::begin(ruler_tasks), std::end(ruler_tasks),
                                           [&](const RulerTask& task) { return task.name == letters; });
    return found == std::end(ruler_tasks) ? nullptr : found;
}

// Splits `text` in two where the second begins; nothing happens if that is nowhere.
std::string split_off(std::string& text, std::size_t begin) {
    if (begin == std::string::npos) return {};
    std::string second = text.substr(begin);
    text.resize(begin);
    return second;
}

std::size_t last_question(std::string_view text, const RulerTask& task) {
    std::size_t last = std::string_view::npos;
    for (const std::string_view words : task.questions) {
        const std::size_t at = words.empty() ? std::string_view::npos : text.rfind(words);
        if (at != std::string_view::npos && (last == std::string_view::npos || at > last)) last = at;
    }
    return last;
}

// The context with and before what is filled into a format, and what follows; nothing if it is no such format.
std::optional<std::pair<std::string, std::string>> fill_in(std::string_view format, std::string_view context,
                                                           std::string_view input) {
    std::pair<std::string, std::string> filled;
    bool has_context = false;
    bool has_input = false;
    while (!format.empty()) {
        std::string& part = has_context ? filled.second : filled.first;
        const auto next_is = [&](std::string_view mark) {
            if (!format.starts_with(mark)) return false;
            format.remove_prefix(mark.size());
            return true;
        };
        if (next_is("{{")) {
            part += '{';
        } else if (next_is("}}")) {
            part += '}';
        } else if (!has_context && next_is("{context}")) {
            part += context;
            has_context = true;
        } else if (!has_input && next_is("{input}")) {
            part += input;
            has_input = true;
        } else if (format.front() == '{' || format.front() == '}') {
            return std::nullopt;
        } else {
            part += format.front();
            format.remove_prefix(1);
        }
    }
    if (!has_context) return std::nullopt;
    return filled;
}

std::vector<std::string> read_strings(const JsonObject& row, const std::string& key) {
    const json* const list = row.find(key);
    if (list == nullptr) return {};
    if (!list->is_array()) row.fail(key, *list, "must be a list of strings");
    if (list->size() > most_strings) {
        throw FileError(row.path(), key + " has " + std::to_string(list->size()) + " strings, at most " +
                                        std::to_string(most_strings) + " are read");
    }
    std::vector<std::string> strings;
    strings.reserve(list->size());
    for (const json& value : *list) {
        if (!value.is_string()) row.fail(key + "[" + std::to_string(strings.size()) + "]", value, "must be a string");
        strings.push_back(value.get<std::string>());
        if (strings.back().size() > longest_string) {
            throw FileError(row.path(), key + "[" + std::to_string(strings.size() - 1) + "] has " +
                                            std::to_string(strings.back().size()) + " bytes, at most " +
                                            std::to_string(longest_string) + " are read");
        }
    }
    return strings;
}

std::vector<std::string> read_answers(const JsonObject& row, const std::string& key) {
    std::vector<std::string> answers = read_strings(row, key);
    if (answers.empty()) throw FileError(row.path(), key + " must be a list of at least one string");
    return answers;
}

std::string read_string(const JsonObject& row, const std::string& key) { return row.required(key, row.text(key)); }

Index read_reply_length(const JsonObject& object, const std::string& key) {
    const Index value = object.required_whole(key);
    if (value < 1 || value > longest_reply) {
        object.fail(key, value, "must be 1 to " + std::to_string(longest_reply));
    }
    return value;
}

class SampleReader {
public:
    SampleReader(const std::string& path, const LongBenchPrompts& prompts) : path_(path), prompts_(prompts) {}

    void read(std::string_view line, std::size_t number) {
        const std::string place = path_ + ", line " + std::to_string(number);
        const json value = parse_json(std::as_bytes(std::span(line)), place);
        if (!value.is_object()) throw FileError(place, "no JSON object, which each line has to be");
        if (++rows_ > most_rows) throw FileError(place, "at most " + std::to_string(most_rows) + " rows are read");
        const JsonObject row(value, place);
        if (row.has("outputs")) return read_ruler(row);
        if (row.has("answers")) return read_longbench(row);
        if (row.has("answer")) return read_kvpress(row);
        throw FileError(place, "it has none of the keys outputs (RULER), answers (LongBench) and answer (kvpress)");
    }

    std::vector<TaskFile> take() && { return std::move(tasks_); }

private:
    void read_ruler(const JsonObject& row) {
        const std::string name = ruler_name();
        const RulerTask& task = *find_ruler_task(name);
        std::string context = read_string(row, "input");
        Question question;
        question.text = split_off(context, last_question(context, task));
        const std::optional<std::string> prefix = row.text("answer_prefix");
        question.answer_prefix = prefix ? *prefix : split_off(question.text, question.text.find(task.answer));
        question.answers = read_answers(row, "outputs");
        question.most_tokens = task.most_tokens;
        add(name, task, std::move(context), std::move(question), row);
    }

    void read_kvpress(const JsonObject& row) {
        const std::string name = read_string(row, "task");
        const RulerTask* const task = find_ruler_task(name);
        if (task == nullptr) row.fail("task", name, "must be one of RULER's: " + ruler_names());
        Question question;
        question.text = read_string(row, "question");
        question.answer_prefix = row.text("answer_prefix").value_or("");
        question.answers = read_answers(row, "answer");
        question.most_tokens = read_reply_length(row, "max_new_tokens");
        add(name, *task, read_string(row, "context"), std::move(question), row);
    }

    void read_longbench(const JsonObject& row) {
        const std::string name = read_string(row, "dataset");
        const std::string_view task_name =
            std::string_view(name).substr(0, name.size() - (name.ends_with("_e") ? 2 : 0));
        const std::span<const LongBenchTask> all = longbench_tasks();
        const auto task = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.name == task_name; });
        if (task == all.end()) refuse_dataset(row, name);
        const auto prompt = prompts_.find(task_name);
        if (prompt == prompts_.end()) row.fail("dataset", name, "for which no prompt of LongBench was given");

        Question question;
        question.answers = read_answers(row, "answers");
        question.most_tokens = prompt->second.most_tokens;
        std::vector<std::string> classes = read_strings(row, "all_classes");
        if (task->metric == Metric::classification && classes.empty()) {
            throw FileError(row.path(), "all_classes must be a list of at least one string");
        }
        if (task->metric == Metric::retrieval) {
            for (const std::string& answer : question.answers) {
                if (score(task->metric, answer, {&answer, 1}) > 0) continue;
                row.fail("answers", answer, "must name a paragraph, such as \"Paragraph 1\"");
            }
        }
        auto filled = fill_in(prompt->second.format, read_string(row, "context"), read_string(row, "input"));
        if (!filled) row.fail("dataset", name, "whose prompt is no format with {context}");
        question.text = std::move(filled->second);
        Sample sample{std::move(filled->first), {}, std::move(classes)};
        sample.questions.push_back(std::move(question));
        task_of({name, task->metric, task->chat_template, task->first_line_only, {}}, row)
            .samples.push_back(std::move(sample));
    }

    [[noreturn]] static void refuse_dataset(const JsonObject& row, const std::string& name) {
        if (std::find(std::begin(chinese_tasks), std::end(chinese_tasks), name) != std::end(chinese_tasks)) {
            row.fail("dataset", name, "a Chinese task: only English ones are scored, the others need jieba's words");
        }
        std::string names;
        for (const LongBenchTask& task : longbench_tasks()) names.append(names.empty() ? "" : ", ").append(task.name);
        row.fail("dataset", name, "must be one of LongBench's: " + names);
    }

    void add(const std::string& name, const RulerTask& task, std::string context, Question question,
             const JsonObject& row) {
        Sample sample;
        if (task.name == "niah" && question.answers.size() == 1) {
            const std::size_t place = context.find(question.answers.front());
            if (place < context.size()) sample.depth = static_cast<double>(place) / static_cast<double>(context.size());
        }
        sample.context = std::move(context);
        sample.questions.push_back(std::move(question));
        task_of({name, task.metric, true, false, {}}, row).samples.push_back(std::move(sample));
    }

    TaskFile& task_of(TaskFile task, const JsonObject& row) {
        const auto found =
            std::find_if(tasks_.begin(), tasks_.end(), [&](const TaskFile& one) { return one.name == task.name; });
        if (found != tasks_.end()) return *found;
        if (tasks_.size() == most_tasks) {
            throw FileError(row.path(), "at most " + std::to_string(most_tasks) + " tasks are read");
        }
        return tasks_.emplace_back(std::move(task));
    }

    // What the file says only by its name.
    std::string ruler_name() const {
        std::error_code none;  // then there is no name
        const std::filesystem::path file = std::filesystem::absolute(path_, none);
        for (const std::string& name : {file.stem().string(), file.parent_path().filename().string()}) {
            if (find_ruler_task(name) != nullptr) return name;
        }
        throw FileError(path_,
                        "rows of RULER, whose task is the name of the file or of its directory: " + ruler_names());
    }

    static std::string ruler_names() {
        std::string names;
        for (const RulerTask& task : ruler_tasks) {
            names.append(names.empty() ? "" : ", ").append(task.name).append("...");
        }
        return names;
    }

    const std::string& path_;
    const LongBenchPrompts& prompts_;
    std::size_t rows_ = 0;
    std::vector<TaskFile> tasks_;
};

}  // namespace

LongBenchPrompts read_longbench_prompts(const std::string& prompts_path, const std::string& lengths_path) {
    const json prompts_json = read_json(prompts_path);
    const json lengths_json = read_json(lengths_path);
    const JsonObject formats(prompts_json, prompts_path);
    const JsonObject lengths(lengths_json, lengths_path);
    LongBenchPrompts prompts;
    for (const LongBenchTask& task : longbench_tasks()) {
        const std::string name(task.name);
        const std::optional<std::string> format = formats.text(name);
        if (!format) continue;
        if (format->size() > longest_prompt || !fill_in(*format, "", "")) {
            formats.fail(name, *format,
                         "must be at most " + std::to_string(longest_prompt) +
                             " bytes with {context} once, {input} at most once and no other braces but {{ and }}");
        }
        prompts[name] = {*format, read_reply_length(lengths, name)};
    }
    return prompts;
}

std::vector<TaskFile> parse_samples(std::string_view content, const std::string& path,
                                    const LongBenchPrompts& prompts) {
    SampleReader reader(path, prompts);
    for (std::size_t number = 1; !content.empty(); ++number) {
        const std::string_view line = content.substr(0, content.find('\n'));
        if (line.find_first_not_of(" \t\r") != std::string_view::npos) reader.read(line, number);
        content.remove_prefix(std::min(line.size() + 1, content.size()));
    }
    std::vector<TaskFile> tasks = std::move(reader).take();
    if (tasks.empty()) throw FileError(path, "it has no rows");
    return tasks;
}

std::vector<TaskFile> read_samples(const std::string& path, const LongBenchPrompts& prompts) {
    const MappedFile file(path);
    if (file.bytes().size() > most_bytes) {
        throw FileError(
            path, std::to_string(file.bytes().size()) + " bytes; at most " + std::to_string(most_bytes) + " are read");
    }
    return parse_samples({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path, prompts);
}

std::vector<Token> cut_middle(std::vector<Token> context, Index behind, Index most) {
    freqkv::require(behind >= 0 && behind <= most, "behind", behind, "must be 0 to the most tokens of the prompt");
    const auto size = static_cast<Index>(context.size());
    if (size <= most - behind) return context;
    const Index half = most / 2;
    const Index front = std::min(half, most - behind);
    const Index back = std::max<Index>(half - behind, 0);
    context.erase(context.begin() + front, context.end() - back);
    return context;
}

}  // namespace llama
