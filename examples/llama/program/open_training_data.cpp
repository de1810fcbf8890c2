// SPDX-License-Identifier: MIT
#include "llama/program/open_training_data.hpp"

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "llama/io/format.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/token_file.hpp"
#include "llama/training/instruction_records.hpp"

namespace llama {

namespace {

class Opener {
public:
    Opener(const TrainingOptions& options, const Config& config, const Tokenizer* tokenizer)
        : options_(options), config_(config), tokenizer_(tokenizer) {}

    // Data in the form that the options choose.
    std::unique_ptr<TrainingData> open(const std::vector<std::string>& paths) {
        std::unique_ptr<TrainingData> data;
        if (!options_.instructions.empty()) {
            data = open_records(paths.front());
        } else {
            data = std::make_unique<TrainingText>(read_tokens(paths), options_.length, options_.seed, paths.front());
        }
        status_.clear();
        return data;
    }

private:
    std::vector<Token> read_tokens(const std::vector<std::string>& paths) {
        if (options_.token_file.empty()) {
            const auto show = [&](const std::string& path, double part) { show_progress(path, part); };
            return read_text_files(paths, *tokenizer_, config_.vocabulary, options_.threads, show).tokens;
        }
        return llama::read_tokens(paths.front(), options_.token_format, config_.vocabulary, 0);
    }

    std::unique_ptr<TrainingData> open_records(const std::string& path) {
        const auto show = [&](std::size_t done, std::size_t all) {
            show_progress(path, static_cast<double>(done) / static_cast<double>(all));
        };
        const Token end_of_text = find_end_of_text();
        auto records = std::make_unique<InstructionRecords>(path, *tokenizer_, config_.vocabulary, options_.length,
                                                            options_.seed, options_.threads, show, end_of_text);
        if (records->skipped() > 0 || records->cut() > 0) {
            status_.clear();
            std::fprintf(stderr, "freqkv-llama: %s: %lld records are skipped, %lld cut to --length %lld\n",
                         path.c_str(), static_cast<long long>(records->skipped()),
                         static_cast<long long>(records->cut()), static_cast<long long>(options_.length));
        }
        return records;
    }

    // As the model's configuration says, for a tokenizer that does not.
    Token find_end_of_text() {
        if (!config_.end_of_text.empty()) return config_.end_of_text.front();
        if (tokenizer_->end_of_text().empty()) {
            std::fputs(
                "freqkv-llama: note: nothing names a token for the end of a text; the model does not learn to stop\n",
                stderr);
        }
        return -1;
    }

    void show_progress(const std::string& path, double part) {
        if (status_.due()) status_.show(format("reading: %3.0f %% of ", 100 * part) + path);
    }

    const TrainingOptions& options_;
    const Config& config_;
    const Tokenizer* tokenizer_;  // null: not used
    StatusLine status_{false};
};

}  // namespace

TrainingSets open_training_sets(const TrainingOptions& options, const Config& config, const Tokenizer* tokenizer) {
    Opener opener(options, config, tokenizer);
    std::vector<std::string> paths = options.texts;
    if (!options.token_file.empty()) paths = {options.token_file};
    if (!options.instructions.empty()) paths = {options.instructions};
    TrainingSets sets;
    sets.training = opener.open(paths);
    if (!options.validation.empty()) sets.validation = opener.open({options.validation});
    return sets;
}

}  // namespace llama
