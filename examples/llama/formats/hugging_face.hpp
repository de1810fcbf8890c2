// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "llama/formats/tensor_file.hpp"
#include "llama/model/checkpoint.hpp"

namespace llama {

inline constexpr const char* embedding_name = "model.embed_tokens.weight";
inline constexpr const char* classifier_name = "lm_head.weight";

/// A directory with config.json and model.safetensors, or with the shards that model.safetensors.index.json lists:
/// the architectures of docs/checkpoints.md in F32, F16 and BF16. Throws FileError.
Checkpoint read_hugging_face(const std::string& directory);

/// Of such a directory, or of a config.json itself; the end-of-text tokens of a generation_config.json beside it
/// are added.
Config read_hugging_face_config(const std::string& path);

/// The files of such a directory that hold the weights, checked against the index.
std::vector<TensorFile> open_tensor_files(const std::string& directory);

/// A weight of a checkpoint by its name in a Hugging Face file.
struct NamedWeights {
    std::string name;
    std::vector<Index> shape;
    Weights* matrix = nullptr;       ///< of shape [rows, columns]
    const float** vector = nullptr;  ///< of shape [n]: a norm or a bias
};

/// All weights of a checkpoint whose layers are allocated; the classifier too where it is shared. The pointers go
/// into the checkpoint.
std::vector<NamedWeights> named_weights(Checkpoint& checkpoint);

/// Queries and keys are rotated by halves, no matrix is quantised, and norms are as transformers has them: such weights
/// may stand in a Hugging Face file.
bool has_hugging_face_layout(const Checkpoint& checkpoint);

/// A tensor that older versions of transformers saved although it follows from config.json.
bool is_redundant_tensor(std::string_view name);

}  // namespace llama
