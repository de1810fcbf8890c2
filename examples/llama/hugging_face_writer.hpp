// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/checkpoint.hpp"
#include "llama/hugging_face.hpp"
#include "llama/safetensors.hpp"

namespace llama {

/// What a model's directory gets besides the weights.
struct ModelSource {
    std::string directory;  ///< Hugging Face model whose config.json and companions are kept; empty: none
    std::string tokenizer;  ///< tokenizer.model or tokenizer.json to put beside the weights; empty: the directory's
};

/// Writes config.json, tokenizer and model.safetensors, with all numbers in `type`, into a directory that is made if
/// it is not there. Written again, the weights are replaced at once; until they are complete the earlier ones stand.
/// The checkpoint has to be in Hugging Face's layout (half-split rotation, plain types). Throws FileError, also if
/// the directory holds a model with another config.json.
void write_hugging_face(const std::string& directory, const Checkpoint& checkpoint, WeightType type,
                        const ModelSource& source = {}, const WriteProgress& progress = {});

/// A config.json for a model that came from none: LlamaForCausalLM, without scaling of the rotary frequencies.
/// Throws FileError about `path` for what such a model cannot have.
nlohmann::ordered_json make_hugging_face_config(const Config& config, const std::string& path);

/// One tensor for each weight of a checkpoint, a shared classifier only once, in the type that type_of() says.
std::vector<TensorToWrite> list_tensors(const Checkpoint& checkpoint,
                                        const std::function<WeightType(const NamedWeights&)>& type_of);

/// The content of config.json for these tensors: with their type, and whether the classifier is shared.
std::string finish_hugging_face_config(nlohmann::ordered_json config, const Checkpoint& checkpoint,
                                       std::span<const TensorToWrite> tensors);

/// Copies the files beside a model's weights that belong to it as well: tokenizer, special tokens, settings of the
/// generation.
void copy_companions(const std::string& from, const std::string& to);

}  // namespace llama
