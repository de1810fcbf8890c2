// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
    std::string activations;  ///< "keep" or "recompute"; empty: whether they fit
    Index save_every = 100;   ///< steps
    bool resume = false;
    std::string json;
};

}  // namespace llama
