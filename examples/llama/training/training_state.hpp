// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "llama/model/config.hpp"
#include "llama/training/loss_curve.hpp"

namespace llama {

/// Numbers of a training by name: a parameter, or a moment of its gradient.
struct TrainingTensor {
    std::string name;
    std::span<float> numbers;
};

/// How far a training is.
struct TrainingProgress {
    Index step = 0;                 ///< steps that are done
    std::vector<LossPoint> points;  ///< of the loss curve
};

/// Throws FileError about `path` if any number is not finite: such a state is not to be written.
void check_training_state(const std::string& path, const TrainingProgress& progress,
                          std::span<const TrainingTensor> tensors);

/// Writes everything that a training needs to go on as if it had not ended, as one safetensors file, all or nothing.
/// `options`: an object of all that the result depends on, by the names of the program's options without "--", and
/// "data" and "weights", what is trained on and what is begun with, by their fingerprints. At step 0 there are no
/// tensors: the options say what a training begins with. Throws FileError, also as check_training_state(): the earlier
/// file, if any, then still stands.
void write_training_state(const std::string& path, const nlohmann::ordered_json& options,
                          const TrainingProgress& progress, std::span<const TrainingTensor> tensors);

/// Reads such a file back, bit for bit: fills the tensors, which have to be those that were written. Throws FileError
/// for what is no state of a training or not of this one, and UsageError, naming the first option that differs, if it
/// was started with others. The tensors are untouched unless the options and all names and sizes fit, and at step 0.
TrainingProgress read_training_state(const std::string& path, const nlohmann::ordered_json& options,
                                     std::span<const TrainingTensor> tensors);

/// Whether that is a state of step 0; also false for what is no state.
bool is_state_of_beginning(const std::string& path);

/// What the files of a model or adapter say of the training that wrote them.
std::map<std::string, std::string> training_metadata(const nlohmann::ordered_json& options, Index step);

/// Whether such a file has been written after the last step. Without `options`, of any training; else UsageError, as
/// above, if it was another one.
bool is_of_finished_training(const std::string& path, const nlohmann::ordered_json* options = nullptr);

}  // namespace llama
