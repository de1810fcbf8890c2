// SPDX-License-Identifier: MIT
#include "llama/program/evaluation_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <utility>

#include "llama/evaluation/probes.hpp"
#include "llama/evaluation/prompt.hpp"
#include "llama/evaluation/read_and_answer.hpp"
#include "llama/evaluation/read_samples.hpp"
#include "llama/evaluation/scores.hpp"
#include "llama/evaluation/synthetic_tasks.hpp"
#include "llama/formats/head_budgets.hpp"
#include "llama/io/file.hpp"
#include "llama/io/format.hpp"
#include "llama/io/utf8.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/chat_template_file.hpp"
#include "llama/tokenizers/chat_tokens.hpp"
#include "llama/tokenizers/fingerprint.hpp"
#include "llama/tokenizers/text.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

namespace {

constexpr const char* passage_name = "passage";
constexpr const char* pairs_name = "mqar";
constexpr const char* forgetting_name = "forgetting-mqar";
constexpr const char* divergence_name = "divergence";

constexpr Index passage_length = 192;
constexpr Index before_passage = 64;
constexpr Index tokens_for_a_pair = 32;
constexpr Index stretch_of_divergence = 256;

// Another for each sample, whatever the others are.
std::uint64_t seed_of(std::uint64_t seed, Index sample) {
    return seed * 0x9e3779b97f4a7c15U + static_cast<std::uint64_t>(sample) + 1;
}

// Whether a token is a word, with the space before it: what keys and values of pairs can be.
bool is_word(std::string_view text) {
    if (text.size() < 4 || text.front() != ' ') return false;
    return std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

// A text from a line in its first half on, another one for each seed.
std::string_view from_a_line(std::string_view text, std::uint64_t seed) {
    const std::size_t at = text.find('\n', std::mt19937_64(seed)() % (text.size() / 2 + 1));
    return at == std::string_view::npos ? text : text.substr(at + 1);
}

bool interrupted() { return Interrupt::received(); }

}  // namespace

// What the items of a plan use.
struct EvaluationPlan::Materials {
    Index vocabulary;
    Index chunk;
    std::unique_ptr<Tokenizer> tokenizer;
    std::string text;                            // of --text
    std::vector<Token> tokens;                   // the same
    std::unique_ptr<PromptWriter> conversation;  // as the model is talked to, or as a text
    std::unique_ptr<PromptWriter> continuation;  // as a text
    std::vector<Token> ends;                     // of replies
    std::vector<Token> words;                    // tokens that are words
    std::uint64_t fingerprint = llama::fingerprint({});

    // The rows of a sample's questions, which have of `row` what they do not have of their own.
    std::vector<EvaluationRow> ask(EvaluatedModels& models, const EvaluationRow& row, const Sample& sample,
                                   Metric metric, bool first_line_only, const Prompts& prompts) const {
        std::vector<Index> most;
        most.reserve(sample.questions.size());
        for (const Question& question : sample.questions) most.push_back(question.most_tokens);
        const std::vector<std::string> replies =
            answer(*models.model, *tokenizer, prompts, most, ends, chunk, interrupted);
        std::vector<EvaluationRow> rows;
        rows.reserve(replies.size());
        for (std::size_t q = 0; q < replies.size(); ++q) {
            EvaluationRow& to = rows.emplace_back(row);
            to.question = static_cast<Index>(q);
            to.prediction = valid_utf8(replies[q]);  // as files give it back
            to.answers = sample.questions[q].answers;
            const std::string_view scored =
                first_line_only ? first_line(to.prediction) : std::string_view(to.prediction);
            to.values["score"] = score(metric, scored, to.answers, sample.classes);
        }
        return rows;
    }

    std::vector<EvaluationRow> probe(EvaluatedModels& models, EvaluationRow row, const Probe& probe) const {
        const std::optional<Recall> found = recall(*models.model, probe, chunk, interrupted);
        if (found) row.values = {{"loss", found->loss}, {"score", found->exact}};
        return {std::move(row)};
    }
};

EvaluationPlan::~EvaluationPlan() = default;

std::string EvaluationPlan::task_names() {
    std::string names;
    for (const SyntheticTask task : all_of<SyntheticTask>) names += std::string(to_string(task)) + ", ";
    return names + passage_name + ", " + pairs_name + ", " + forgetting_name + ", " + divergence_name;
}

EvaluationPlan::EvaluationPlan(const EvaluateOptions& options, const Checkpoint& checkpoint)
    : options_(options),
      materials_(std::make_unique<Materials>(
          Materials{checkpoint.config.vocabulary, options.prefill_chunk, {}, {}, {}, {}, {}, {}, {}})),
      lengths_(options.lengths) {
    Materials& materials = *materials_;
    const Index vocabulary = checkpoint.config.vocabulary;
    materials.tokenizer = open_tokenizer(options.tokenizer, checkpoint);
    if (lengths_.empty()) lengths_.push_back(2048);
    std::optional<ChatTemplate> chat_template;
    materials.ends = materials.tokenizer->end_of_text();
    if (options.chat_template != "none") {
        // A model that was never taught to talk goes on with texts.
        if (!options.chat_template.empty() || read_chat_template(checkpoint.path)) {
            chat_template = open_chat_template(options.chat_template, checkpoint.path);
            materials.ends = find_ends_of_reply(*materials.tokenizer, *chat_template);
        }
    }
    materials.ends.insert(materials.ends.end(), checkpoint.config.end_of_text.begin(),
                          checkpoint.config.end_of_text.end());
    chat_template_ = chat_template ? std::string(chat_template->name()) : "none";
    const Protocol protocol = options.question_aware ? Protocol::question_aware : Protocol::question_agnostic;
    materials.conversation = std::make_unique<PromptWriter>(*materials.tokenizer, vocabulary, chat_template, protocol);
    materials.continuation = std::make_unique<PromptWriter>(*materials.tokenizer, vocabulary, std::nullopt, protocol);
    if (!options.text.empty()) {
        const std::vector<char> text = read_text_file(options.text);
        materials.text.assign(text.begin(), text.end());
        materials.tokens = encode_prompt(*materials.tokenizer, materials.text, options.text, vocabulary,
                                         options.threads > 0 ? options.threads : 1);
        materials.fingerprint = llama::fingerprint(materials.tokens, materials.fingerprint);
    }
    for (const std::string& name : options.tasks) {
        if (name == passage_name) {
            add_passage();
        } else if (name == pairs_name || name == forgetting_name) {
            add_pairs(name == forgetting_name);
        } else if (name == divergence_name) {
            add_divergence();
        } else if (const auto task = find_synthetic_task(name)) {
            add_synthetic(*task);
        } else if (std::filesystem::exists(name)) {
            add_file(name);
        } else {
            throw UsageError(name + ": there is no such task and no such file; tasks are " + task_names());
        }
    }
}

std::string EvaluationPlan::fingerprint() const { return fingerprint_digits(materials_->fingerprint); }

void EvaluationPlan::add(std::string task, Index tokens,
                         std::function<std::vector<EvaluationRow>(EvaluatedModels&)> run) {
    longest_ = std::max(longest_, tokens);
    items_.push_back({std::move(task), tokens, std::move(run)});
}

void EvaluationPlan::add_synthetic(SyntheticTask task) {
    const Materials& materials = *materials_;
    const SyntheticTraits traits = traits_of(task);
    const std::string name = traits.name;
    if (traits.needs_haystack && materials.text.empty()) {
        throw UsageError(name + " hides a sentence in a text: give --text");
    }
    if (options_.depths > 0 && traits.has_depth) has_places_ = true;
    const Index depths = traits.has_depth && options_.depths > 0 ? options_.depths : 1;
    for (const Index length : lengths_) {
        for (Index number = 0; number < depths * options_.samples; ++number) {
            std::optional<double> depth;
            if (traits.has_depth) {
                const Index place = options_.depths > 0 ? number / options_.samples : number;
                const Index places = options_.depths > 0 ? depths : options_.samples;
                depth = places > 1 ? static_cast<double>(place) / static_cast<double>(places - 1) : 0.5;
            }
            const std::uint64_t seed = seed_of(options_.seed, number);
            add(name, length, [=, &materials](EvaluatedModels& models) {
                const PromptWriter& writer = *materials.conversation;
                const SampleSize size{length - writer.frame(),
                                      [&](std::string_view text) { return writer.count(text); }};
                const std::string_view text =
                    traits.needs_haystack ? from_a_line(materials.text, seed) : std::string_view();
                const Sample sample = [&] {
                    try {
                        return make_sample(task, size, seed, depth, text);
                    } catch (const UsageError& error) {
                        throw UsageError("--length " + std::to_string(length) + ", of which " +
                                         std::to_string(writer.frame()) + " are around a message: " + error.what());
                    }
                }();
                const EvaluationRow row{name, length, depth.value_or(-1), number, 0, {}, {}, {}};
                const Metric metric = task == SyntheticTask::passkey ? Metric::exact_number : Metric::string_match_all;
                return materials.ask(models, row, sample, metric, false, writer.write(sample, name));
            });
        }
    }
}

void EvaluationPlan::add_passage() {
    const Materials& materials = *materials_;
    if (materials.text.empty()) throw UsageError(std::string(passage_name) + " comes again in a text: give --text");
    const auto count = static_cast<Index>(materials.tokens.size());
    has_places_ = has_places_ || options_.distances.size() > 1;
    for (const Index distance : options_.distances) {
        if (distance < passage_length) {
            throw UsageError("--distances " + std::to_string(distance) + ": a passage has " +
                             std::to_string(passage_length) + " tokens, and comes again behind its end");
        }
        const Index read = before_passage + distance;
        if (read > count) {
            throw FileError(options_.text, "it has " + std::to_string(count) +
                                               " tokens; a passage that comes again after " + std::to_string(distance) +
                                               " needs " + std::to_string(read));
        }
        for (Index s = 0; s < options_.samples; ++s) {
            const Index begin = options_.samples > 1 ? (count - read) * s / (options_.samples - 1) : 0;
            add(passage_name, read + passage_length, [=, &materials](EvaluatedModels& models) {
                const auto text = std::span(materials.tokens).subspan(static_cast<std::size_t>(begin));
                const Probe probe = make_passage_probe({before_passage, passage_length, distance}, text);
                EvaluationRow row{passage_name, read, static_cast<double>(distance), s, 0, {}, {}, {}};
                return materials.probe(models, std::move(row), probe);
            });
        }
    }
}

void EvaluationPlan::add_pairs(bool forgetting) {
    Materials& materials = *materials_;
    if (materials.words.empty()) {
        const Index vocabulary = std::min(materials.tokenizer->vocabulary(), materials.vocabulary);
        for (Index t = 0; t < vocabulary; ++t) {
            const auto token = static_cast<Token>(t);
            if (is_word(materials.tokenizer->decode(token, token))) materials.words.push_back(token);
        }
    }
    const std::string name = forgetting ? forgetting_name : pairs_name;
    for (const Index length : lengths_) {
        const Index pairs = std::max<Index>(1, length / tokens_for_a_pair);
        const RecallShape shape{length, pairs, forgetting ? (pairs + 3) / 4 : 0};
        const Index needed = 2 * shape.pairs + shape.reassigned + 1;
        if (needed > static_cast<Index>(materials.words.size())) {
            throw UsageError(name + " --length " + std::to_string(length) + " needs " + std::to_string(needed) +
                             " tokens that are words, the model has " + std::to_string(materials.words.size()));
        }
        for (Index s = 0; s < options_.samples; ++s) {
            const std::uint64_t seed = seed_of(options_.seed, s);
            add(name, length, [=, &materials](EvaluatedModels& models) {
                const Probe probe = make_recall_probe(shape, materials.words, seed);
                return materials.probe(models, {name, length, -1, s, 0, {}, {}, {}}, probe);
            });
        }
    }
}

void EvaluationPlan::add_divergence() {
    const Materials& materials = *materials_;
    if (materials.text.empty()) throw UsageError(std::string(divergence_name) + " is that of a text: give --text");
    needs_full_ = true;
    for (const Index length : lengths_) {
        const Index tokens = std::min(length, static_cast<Index>(materials.tokens.size()));
        if (tokens < 2) throw FileError(options_.text, "there is no second token to predict");
        add(divergence_name, tokens, [=, &materials](EvaluatedModels& models) {
            const std::vector<Difference> differences = compare(
                *models.model, *models.full, std::span(materials.tokens).first(static_cast<std::size_t>(tokens)),
                materials.chunk, stretch_of_divergence, interrupted);
            std::vector<EvaluationRow> rows;
            for (const Difference& of : differences) {
                EvaluationRow& row = rows.emplace_back(
                    EvaluationRow{divergence_name, length, -1, static_cast<Index>(rows.size()), 0, {}, {}, {}});
                row.values = {{"divergence", of.divergence},
                              {"agreement", of.agreement},
                              {"rms_probability", of.root_mean_square},
                              {"loss", of.loss},
                              {"full_loss", of.other_loss}};
            }
            return rows;
        });
    }
}

void EvaluationPlan::add_file(const std::string& path) {
    LongBenchPrompts prompts;
    if (!options_.longbench.empty()) {
        const std::filesystem::path directory(options_.longbench);
        prompts = read_longbench_prompts((directory / "dataset2prompt.json").string(),
                                         (directory / "dataset2maxlen.json").string());
    }
    for (TaskFile& file : read_samples(path, prompts)) add_file(path, std::make_shared<TaskFile>(std::move(file)));
}

void EvaluationPlan::add_file(const std::string& path, const std::shared_ptr<const TaskFile>& file) {
    Materials& materials = *materials_;
    const PromptWriter& writer = file->chat_template ? *materials.conversation : *materials.continuation;
    const auto count = std::min(options_.samples, static_cast<Index>(file->samples.size()));
    for (Index s = 0; s < count; ++s) {
        const Sample& sample = file->samples[static_cast<std::size_t>(s)];
        Prompts read = writer.write(sample, path);
        Index behind = 0;  // the context, at most
        for (std::size_t q = 0; q < sample.questions.size(); ++q) {
            behind = std::max(behind, static_cast<Index>(read.questions[q].size()) + sample.questions[q].most_tokens);
            materials.fingerprint = llama::fingerprint(read.questions[q], materials.fingerprint);
        }
        if (!options_.lengths.empty()) {
            const Index most = options_.lengths.front();
            if (behind > most) {
                throw UsageError("--length " + std::to_string(most) + ": a question of " + path +
                                 " and its reply have " + std::to_string(behind) + " tokens");
            }
            read.context = cut_middle(std::move(read.context), behind, most);
        }
        materials.fingerprint = llama::fingerprint(read.context, materials.fingerprint);
        const Index tokens = static_cast<Index>(read.context.size()) + behind;
        const Index length = options_.lengths.empty() ? 0 : options_.lengths.front();  // rows of a task are one cell
        add(file->name, tokens, [=, &materials, read = std::move(read)](EvaluatedModels& models) {
            const Sample& asked = file->samples[static_cast<std::size_t>(s)];
            const EvaluationRow row{file->name, length, asked.depth, s, 0, {}, {}, {}};
            return materials.ask(models, row, asked, file->metric, file->first_line_only, read);
        });
    }
}

}  // namespace llama
