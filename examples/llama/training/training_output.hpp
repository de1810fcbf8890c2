// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "llama/formats/hugging_face_writer.hpp"
#include "llama/io/directory_lock.hpp"
#include "llama/training/loss_curve.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_state.hpp"

namespace llama {

/// The directory that a training writes, alone: the model or adapter as it is at the moment, loss.csv, and, from before
/// the first step until the training is over, the state that it goes on from. All of it is replaced at every save, each
/// file at once, the state last. So there is no moment at which the training cannot go on, or begin again. At the end
/// the loss curve is drawn, too (loss.svg).
class TrainingOutput {
public:
    /// `type` of the saved weights; `source` is what the model was made from. Makes the directory, and removes what
    /// killed programs left in it. Throws FileError if it cannot be written or another program writes it, and, or
    /// UsageError without anything to resume, rather than write over what is no training's.
    TrainingOutput(std::string directory, WeightType type, ModelSource source, bool resume);

    const std::string& directory() const { return directory_; }
    std::string state_path() const { return directory_ + "/training_state.safetensors"; }

    /// Resumed although the training is over. Throws UsageError if that was one with other options.
    bool is_finished(const nlohmann::ordered_json& made_with) const;

    /// Writes the state of step 0. `made_with` as in training_state.hpp.
    void begin(const nlohmann::ordered_json& made_with) const;

    /// What `tensors` are and how far the training is.
    TrainingProgress load(const nlohmann::ordered_json& made_with, std::span<const TrainingTensor> tensors) const {
        return read_training_state(state_path(), made_with, tensors);
    }
    /// Throws FileError; if any number is not finite, before anything is replaced.
    void save(const TrainableLlama& model, const nlohmann::ordered_json& made_with, const TrainingProgress& progress,
              std::span<const TrainingTensor> tensors) const;

    /// The loss curve with its picture.
    void draw(std::span<const LossPoint> points) const;

    /// Takes the state away, for there is nothing left to resume.
    void finish() const;

private:
    // Throws as the constructor does.
    void check_found(bool resume);
    std::string finished_weights() const;
    void save_adapter(const TrainableLlama& model, const LoraOptions& lora,
                      const std::map<std::string, std::string>& metadata) const;

    std::string directory_;
    WeightType type_;
    ModelSource source_;
    std::optional<DirectoryLock> lock_;
    bool over_ = false;  // there is a result, and no state
};

}  // namespace llama
