// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "llama/model/random.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

// freqkv-llama train and finetune as a user runs them, with models that learn a text of twenty words in no time.
namespace llama::test {

namespace fs = std::filesystem;

#if defined(_OPENMP)
inline const std::vector<std::string> training_thread_counts{"1", "2", "3"};
#else
inline const std::vector<std::string> training_thread_counts{"1", "1"};
#endif

inline const std::string tokenizer_file = FREQKV_FIXTURES_DIR "/tokenizers/llama2/tokenizer.model";
inline constexpr double vocabulary = 460;

// Sentences of words that follow each other more or less often.
inline std::string make_text(std::uint64_t seed, int sentences) {
    constexpr const char* subjects[] = {"the cat", "a dog", "the old man", "rain", "my sister"};
    constexpr const char* verbs[] = {"sat on", "ran over", "looked at", "fell on"};
    constexpr const char* objects[] = {"the mat", "a hill", "the sea", "the roof"};
    Random random(seed);
    const auto one_of = [&](const auto& words) { return words[random.next() % std::size(words)]; };
    std::string text;
    for (int i = 0; i < sentences; ++i) {
        text += std::string(one_of(subjects)) + " " + one_of(verbs) + " " + one_of(objects) + ".\n";
    }
    return text;
}

inline nlohmann::json parse(const std::string& text) {
    return nlohmann::json::accept(text) ? nlohmann::json::parse(text) : nlohmann::json{};
}

// All files of a directory.
inline std::map<std::string, std::string> content_of(const std::string& directory) {
    std::map<std::string, std::string> content;
    for (const auto& entry : fs::directory_iterator(directory)) {
        content[entry.path().filename()] = read_text(entry.path());
    }
    return content;
}

inline std::vector<std::string> names_of(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : content_of(directory)) names.push_back(name);
    return names;
}

// The columns of loss.csv but for the time that it took.
inline std::vector<std::vector<std::string>> losses_of(const std::string& directory) {
    std::istringstream lines(read_text(directory + "/loss.csv"));
    std::vector<std::vector<std::string>> rows;
    for (std::string line; std::getline(lines, line);) {
        std::vector<std::string> row;
        std::istringstream cells(line);
        for (std::string cell; std::getline(cells, cell, ',');) row.push_back(cell);
        row.resize(7);
        row.erase(row.begin() + 5);
        rows.push_back(row);
    }
    return rows;
}

// Of the steps [first, first + count).
inline double mean_loss(const std::string& directory, std::size_t first, std::size_t count) {
    const auto rows = losses_of(directory);
    double sum = 0;
    for (std::size_t i = first; i < first + count; ++i) sum += std::stod(rows.at(1 + i).at(3));
    return sum / static_cast<double>(count);
}

inline std::size_t steps_of(const std::string& directory) { return losses_of(directory).size() - 1; }

// What a training leaves does not depend on how it went; the times and the picture do.
inline void expect_same_result(const std::string& a, const std::string& b) {
    EXPECT_EQ(losses_of(a), losses_of(b));
    auto first = content_of(a), second = content_of(b);
    for (auto* const content : {&first, &second}) {
        std::erase_if(*content, [](const auto& file) { return file.first.starts_with("loss."); });
    }
    EXPECT_EQ(first.size(), second.size());
    for (const auto& [name, bytes] : first) EXPECT_TRUE(bytes == second[name]) << name << " differs";
}

// Sends a signal when a line on standard error begins so.
inline Surroundings signal_at(const std::string& line, int signal) {
    Surroundings with;
    with.on_text = [line, signal, sent = false](pid_t child, const Outcome& outcome) mutable {
        if (sent || outcome.err.find(line) == std::string::npos) return;
        sent = true;
        ::kill(child, signal);
    };
    return with;
}

// The line of a training on a machine without gnuplot.
inline const std::string not_drawn =
    "freqkv-llama: note: the losses are not drawn: gnuplot: No such file or directory\n";

// Standard error but for that line.
inline std::string without_note(std::string err) {
    const std::size_t place = err.find(not_drawn);
    if (place != std::string::npos) err.erase(place, not_drawn.size());
    return err;
}

// A command whose options are replaced by those that are given again.
inline Arguments changed(Arguments command, const Arguments& options) {
    const auto is_option = [](const std::string& word) { return word.starts_with("--"); };
    for (const std::string& word : options) {
        const auto given = std::find(command.begin(), command.end(), word);
        if (!is_option(word) || given == command.end()) continue;
        command.erase(given, std::find_if(given + 1, command.end(), is_option));
    }
    return command + options;
}

inline nlohmann::json instruction(const std::string& question, const std::string& answer) {
    return {{"instruction", question}, {"output", answer}};
}

class TrainProgram : public testing::Test {
protected:
    TrainProgram() {
        files_.write("text.txt", make_text(1, 120));
        ::setenv("OMP_WAIT_POLICY", "passive", 1);  // waiting threads leave the processor to other work
    }

    std::string file(const std::string& name) const { return files_ / name; }

    // A training from scratch into `out`, of the text unless other data are among the options. One thread, unless a
    // test is about threads.
    Arguments train(const std::string& out, const Arguments& options = {}) const {
        return with_data({"train",     "--tokenizer", tokenizer_file,
                          "--window",  "32",          "--dim",
                          "32",        "--layers",    "1",
                          "--heads",   "4",           "--kv-heads",
                          "2",         "--hidden",    "48",
                          "--batch",   "8",           "--learning-rate",
                          "2e-2",      "--warmup",    "5",
                          "--threads", "1",           "--out",
                          file(out)},
                         options);
    }

    Arguments finetune(const std::string& out, const Arguments& options = {}) const {
        return with_data({"finetune", "--model", base(), "--batch", "8", "--steps", "20", "--length", "48",
                          "--learning-rate", "1e-2", "--warmup", "2", "--threads", "1", "--out", file(out)},
                         options);
    }

    // A model that learnt something, made once.
    std::string base() const {
        if (!fs::exists(file("base"))) output_of(train("base", {"--steps", "20", "--type", "f32"}));
        return file("base");
    }

    // Compresses 6 times in a text of 48 tokens.
    static Arguments small_cache() { return {"--policy", "low-pass", "--capacity", "16", "--sinks", "2"}; }

    // Mean loss of the text under a model, in nats.
    double loss(const std::string& model, const Arguments& options) const {
        const std::string result = output_of(
            Arguments{"perplexity", "--model", model, "--text", file("text.txt"), "--threads", "1", "--json", "-"} +
            options);
        return std::log(parse(result).at("perplexity").get<double>());
    }

    TemporaryDirectory files_;

private:
    Arguments with_data(const Arguments& command, const Arguments& options) const {
        for (const char* const data : {"--text", "--token-file", "--instructions"}) {
            if (std::find(options.begin(), options.end(), data) != options.end()) return changed(command, options);
        }
        return changed(command, Arguments{"--text", file("text.txt")} + options);
    }
};

}  // namespace llama::test
