// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>
#include <vector>

#include "llama/model/weights.hpp"

namespace llama {

/// What LoRA adds to one matrix W [rows, columns]: alpha / rank * B A.
struct LoraFactors {
    std::string module;  ///< "model.layers.0.self_attn.q_proj"
    Weights a;           ///< [rank, columns]
    Weights b;           ///< [rows, rank]
};

/// A tensor that was trained as a whole: an embedding or a norm.
struct TrainedTensor {
    std::string name;  ///< "model.norm.weight"
    std::vector<Index> shape;
    Weights numbers;
};

/// A LoRA adapter in memory. Does not own.
struct TrainedAdapter {
    std::string base_model;          ///< path of the model that it was trained on
    Index rank = 0;                  ///< of all factors
    double alpha = 0;                ///< the scale is alpha / rank
    bool shared_classifier = false;  ///< a trained embedding is the model's classifier, too
    std::vector<LoraFactors> factors;
    std::vector<TrainedTensor> tensors;
};

/// Writes adapter_config.json and adapter_model.safetensors as PEFT does, with all numbers in `type`, into a directory
/// that is made if it is not there. Written again, the tensors are replaced at once. `metadata` goes into the file of
/// tensors. Throws FileError, also if the directory holds an adapter with another adapter_config.json.
void write_adapter(const std::string& directory, const TrainedAdapter& adapter, WeightType type,
                   const std::map<std::string, std::string>& metadata = {});

}  // namespace llama
