// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "llama/model/cache_settings.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_training_data.hpp"
#include "llama/program/training_options.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_output.hpp"

namespace llama {

/// Trains a model from its first or, to resume, its saved step to the last one, or until the program is interrupted.
/// `made_with` as in training_state.hpp. Returns the exit status.
int run_training(const TrainingOptions& options, const CacheSettings& settings, TrainableLlama& model,
                 const TrainingSets& data, const TrainingOutput& output, const JsonOutput& json,
                 nlohmann::ordered_json made_with);

}  // namespace llama
