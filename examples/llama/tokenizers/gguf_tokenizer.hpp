// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// Throws FileError with `path` if the parts do not fit together, and for kinds that are not supported, naming
/// those that are.
std::unique_ptr<Tokenizer> make_gguf_tokenizer(GgufVocabulary vocabulary, const std::string& path);

}  // namespace llama
