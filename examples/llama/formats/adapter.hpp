// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <map>
#include <string>

#include "llama/model/checkpoint.hpp"

namespace llama {

/// What an adapter changed: names as in Hugging Face files, and the types that hold the new numbers exactly.
using ChangedWeights = std::map<std::string, WeightType>;

/// Called after each matrix that was merged, with their number and that of all; may throw to give up.
using MergeProgress = std::function<void(Index done, Index total)>;

/// Merges a PEFT adapter into a checkpoint, which is brought into Hugging Face's layout first: LoRA matrices, W + scale
/// * B A, computed and kept in F32, whatever type W has, and whole tensors that were trained along, which are taken as
/// they are. The directory has
/// adapter_config.json and adapter_model.safetensors or .bin; the embedding and norms that LongLoRA's scripts save
/// may stand beside them, or alone, in trainable_params.safetensors or .bin.
///
/// The vocabulary grows by tokens that were added to both the embedding and the classifier. Rows that only one of them
/// has are dropped, with a note on standard error.
///
/// A LoRA of a shared embedding or classifier changes the one and not the other, as PEFT computes it unless the adapter
/// says otherwise: the two are no longer shared then.
///
/// Throws FileError for what is not understood and for tensors that fit nothing; the checkpoint is of no use then.
ChangedWeights merge_adapter(Checkpoint& checkpoint, const std::string& directory, const MergeProgress& progress = {});

}  // namespace llama
