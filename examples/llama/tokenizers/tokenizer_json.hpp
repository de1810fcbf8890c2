// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// The tokenizer of a Hugging Face tokenizer.json, which must be a byte-level BPE, as those of LLaMA-3, Qwen2 and
/// GPT-2 are. A tokenizer_config.json beside it names EOS. Throws FileError naming what is not supported.
std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path);

}  // namespace llama
