// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "llama/io/file.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// A tokenizer.json of a kind that is not supported; the message names what is not.
class UnsupportedTokenizer : public FileError {
public:
    using FileError::FileError;
};

/// The tokenizer of a Hugging Face tokenizer.json, which must be a byte-pair encoding: of bytes, as those of LLaMA-3,
/// Qwen2 and GPT-2 are, or of characters, as those of LLaMA-2, Mistral and Gemma are. A tokenizer_config.json beside it
/// names EOS, and may change what is put before a text and behind it. Throws FileError.
std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path);

}  // namespace llama
