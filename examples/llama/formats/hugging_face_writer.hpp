// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "llama/formats/hugging_face.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/model/checkpoint.hpp"

namespace llama {

/// Where what stands beside a model's weights comes from: one of both, or neither.
struct ModelSource {
    std::string directory{};  ///< Hugging Face model whose config.json and companions are kept
    std::string tokenizer{};  ///< or a tokenizer, .model or .json, for a config.json that is made
};

/// Writes config.json, tokenizer and model.safetensors, with all numbers in `type`, into a directory, which is made if
/// it is not there. Written again, the weights are replaced at once: a directory holds no weights or complete ones.
/// `metadata` goes into the file of weights.
/// Throws FileError, also if the weights are not in Hugging Face's layout, if what the source gives cannot be written
/// so, or if another config.json or tokenizer is there.
void write_hugging_face(const std::string& directory, const Checkpoint& checkpoint, WeightType type,
                        const ModelSource& source = {}, const WriteProgress& progress = {},
                        const std::map<std::string, std::string>& metadata = {});

// What that is made of.

/// The config.json of a LlamaForCausalLM, without what finish_hugging_face_config() adds. Throws FileError about `path`
/// for what would need more: biases, a sliding window, or a scaling of the rotary frequencies.
nlohmann::json make_hugging_face_config(const Config& config, const std::string& path);

/// The text of a config.json for these tensors: with their type, and whether the classifier is shared.
std::string finish_hugging_face_config(nlohmann::json config, const Checkpoint& checkpoint,
                                       std::span<const TensorToWrite> tensors);

/// A tensor for each weight, a shared classifier only once, of the type that type_of() says.
std::vector<TensorToWrite> list_tensors(const Checkpoint& checkpoint,
                                        const std::function<WeightType(const NamedWeights&)>& type_of);

/// Throws FileError for a tokenizer that is neither a .model nor a .json file.
void check_companion_tokenizer(const std::string& tokenizer);

/// Copies the files beside a model's weights that belong to it: tokenizer, special tokens, settings of the generation.
/// Those of the tokenizer are from another directory if one is given.
void copy_companions(const std::string& from, const std::string& to, const std::string& tokenizer_from = {});

}  // namespace llama
