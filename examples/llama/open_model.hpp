// SPDX-License-Identifier: MIT
#pragma once

#include "llama/adapter.hpp"
#include "llama/checkpoint.hpp"
#include "llama/options.hpp"

namespace llama {

/// The checkpoint that the options name, with the adapter they name merged into it.
inline Checkpoint open_model(const ModelOptions& options) {
    Checkpoint checkpoint = open_checkpoint(options.model);
    if (!options.adapter.empty()) merge_adapter(checkpoint, options.adapter);
    return checkpoint;
}

}  // namespace llama
