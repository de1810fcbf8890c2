// SPDX-License-Identifier: MIT
#pragma once

#include "llama/formats/hugging_face_architecture.hpp"
#include "llama/io/json_object.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// Reads which layers have a window and which do not turn. The number of layers is in `config` before. Throws
/// FileError.
void read_hugging_face_layers(const JsonObject& object, const HuggingFaceArchitecture& architecture, Config& config);

}  // namespace llama
