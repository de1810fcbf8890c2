// SPDX-License-Identifier: MIT
#pragma once

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
/// `options`: an object of all that the result depends on, by the names of the program's options without "--". Throws
/// FileError, also as check_training_state(): the earlier file, if any, then still stands.
void write_training_state(const std::string& path, const nlohmann::ordered_json& options,
                          const TrainingProgress& progress, std::span<const TrainingTensor> tensors);

/// Reads such a file back, bit for bit: fills the tensors, which have to be those that were written. Throws FileError
/// for what is no state of a training or not of this one, and UsageError, naming the first option that differs, if it
/// was started with others. The tensors are untouched unless the options and all names and sizes fit.
TrainingProgress read_training_state(const std::string& path, const nlohmann::ordered_json& options,
                                     std::span<const TrainingTensor> tensors);

}  // namespace llama
