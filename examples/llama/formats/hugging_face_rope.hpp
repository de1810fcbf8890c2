// SPDX-License-Identifier: MIT
#pragma once

#include "llama/io/json_object.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// Where architectures differ in what config.json says of the rotary embedding.
struct RopeDefaults {
    double base = 10000;
    double local_base = 0;       ///< Gemma 3's: local layers have parameters of their own; 0: all layers have the same
    bool partial = false;        ///< partial_rotary_factor is obeyed
    bool longrope_only = false;  ///< the only scaling, also under its older names (Phi-3)
    Index original_context = 0;  ///< where the key is missing; 0: the context
};

/// Reads rope_scaling of older files, rope_parameters of later ones, and the keys that stand beside them. The sizes are
/// in `config` before. Throws FileError.
void read_hugging_face_rope(const JsonObject& object, const RopeDefaults& defaults, Config& config);

}  // namespace llama
