// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "llama/model/config.hpp"
#include "llama/program/program.hpp"
#include "llama/tokenizers/tokenizer.hpp"
#include "llama/training/training_data.hpp"

namespace llama {

/// What a model is trained on, and what its loss is measured on meanwhile.
struct TrainingSets {
    std::unique_ptr<TrainingData> training;
    std::unique_ptr<TrainingData> validation;  ///< null: none
};

/// Reads the texts, tokens or instructions that the options name. Token ids need no tokenizer, which may be null then.
/// Throws FileError for what cannot be used.
TrainingSets open_training_sets(const TrainingOptions& options, const Config& config, const Tokenizer* tokenizer);

}  // namespace llama
