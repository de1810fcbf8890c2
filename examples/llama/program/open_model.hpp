// SPDX-License-Identifier: MIT
#pragma once

#include "llama/formats/adapter.hpp"
#include "llama/formats/open_checkpoint.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/options.hpp"

namespace llama {

/// The checkpoint that the options name, with the adapter they name merged into it.
inline Checkpoint open_model(const ModelOptions& options) {
    Checkpoint checkpoint = open_checkpoint(options.model);
    if (!options.adapter.empty()) merge_adapter(checkpoint, options.adapter);
    return checkpoint;
}

}  // namespace llama
