// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "llama/program/options.hpp"

namespace llama {

/// What `train` and `finetune` share.
struct TrainingOptions : PolicyOptions {
    std::vector<std::string> texts;
    std::string token_file;
    std::string token_format = "u16";
    std::string instructions;
    std::string tokenizer;
    std::string validation;       ///< in the form of the training data
    Index validate_every = 100;   ///< steps
    Index validation_texts = 64;  ///< at most
    std::string out;
    std::string type = "bf16";  ///< of the saved weights
    Index length = 0;           ///< targets of a text; 0: the model's window
    Index batch = 32;           ///< texts of a step
    Index steps = 1000;
    double learning_rate = 0;
    std::string schedule = "constant";
    Index warmup = 20;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double weight_decay = 0;
    double clip = 1;  ///< 0: never
    std::uint64_t seed = 0;
    int threads = 0;
    Index save_every = 100;  ///< steps
    bool resume = false;
    std::string json;
};

inline void add_training_options(CLI::App& command, TrainingOptions& options) {
    std::string group = "Data";
    const auto add = [&](const char* name, auto& value, const char* description, const char* type) {
        return command.add_option(name, value, description)->type_name(type)->group(group);
    };
    const auto count = number<Index>(1, most_tokens);
    CLI::Option* const text = add("--text", options.texts, "UTF-8 texts, one after the other", "FILE...");
    CLI::Option* const ids =
        add("--token-file", options.token_file, "Token ids instead of texts", "FILE")->excludes(text);
    add("--instructions", options.instructions,
        "JSON array of objects with \"instruction\", \"input\" and \"output\"; the loss is that of the output", "FILE")
        ->excludes(text)
        ->excludes(ids);
    add("--token-format", options.token_format, "As for perplexity", "")
        ->needs(ids)
        ->check(CLI::IsMember(std::vector<std::string>{"decimal", "u16"}))
        ->capture_default_str();
    add("--valid", options.validation, "Text, tokens or records (as above) to measure the loss on", "FILE");
    add("--valid-every", options.validate_every, "Steps from one such measurement to the next", "N")
        ->check(count)
        ->capture_default_str();
    add("--valid-texts", options.validation_texts, "How many texts of --length tokens it is measured on", "N")
        ->check(count)
        ->capture_default_str();
    add("--length", options.length, "Tokens of a text [the model's window]", "N")->check(count);

    group = "Training";
    // A saved state has a line for each step, in a header that readers do not take at any length.
    add("--steps", options.steps, "Updates of the weights", "N")
        ->check(number<Index>(1, 500'000))
        ->capture_default_str();
    add("--batch", options.batch, "Texts of each step; a thread takes some at a time, the gradients are added up", "N")
        ->check(count)
        ->capture_default_str();
    add("--learning-rate", options.learning_rate, "Its peak", "X")->check(number(0.0, 1e3))->capture_default_str();
    add("--schedule", options.schedule, "What it does after the warm-up; cosine falls to a tenth", "")
        ->check(CLI::IsMember(std::vector<std::string>{"constant", "cosine"}))
        ->capture_default_str();
    add("--warmup", options.warmup, "Steps over which it rises", "N")
        ->check(number<Index>(0, most_tokens))
        ->capture_default_str();
    add("--weight-decay", options.weight_decay, "Of matrices", "X")->check(number(0.0, 1e3))->capture_default_str();
    add("--beta1", options.beta1, "Of AdamW", "X")->check(number(0.0, 0.9999))->capture_default_str();
    add("--beta2", options.beta2, "Of AdamW", "X")->check(number(0.0, 0.99999))->capture_default_str();
    add("--clip", options.clip, "Greatest norm of the gradient; 0: any", "X")
        ->check(number(0.0, 1e9))
        ->capture_default_str();
    add("--seed", options.seed, "Of the order of the data and of new weights", "N")
        ->check(number(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max()))
        ->capture_default_str();
    add_threads_option(command, options.threads);
    command.get_option("--threads")->group(group);

    add_policy_options(command, options, {"low-pass", "local-window", "full", "low-pass-unscaled"}, "Cache");

    group = "Output";
    add("--out", options.out, "Directory for the result, the loss curve and what --resume needs", "DIR")->required();
    add("--type", options.type, "How the weights are stored", "")
        ->check(CLI::IsMember(std::vector<std::string>{"bf16", "f32"}))
        ->capture_default_str();
    add("--save-every", options.save_every, "Steps from one saved state to the next", "N")
        ->check(count)
        ->capture_default_str();
    command
        .add_flag("--resume", options.resume, "Go on where an interrupted run with the same options saved its state")
        ->group(group);
    add("--json", options.json, "Write a summary as JSON, - for standard output", "FILE");
}

}  // namespace llama
