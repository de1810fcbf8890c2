// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/model/checkpoint.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// A llama2.c file (legacy or version 1), a GGUF file, or a directory of a Hugging Face model. Throws FileError
/// naming the file and what is wrong with it.
Checkpoint open_checkpoint(const std::string& path);

/// The same without the weights, for which a config.json is enough (path: it, or its directory).
Config read_config(const std::string& path);

}  // namespace llama
