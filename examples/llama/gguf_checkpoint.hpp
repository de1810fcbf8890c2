// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/checkpoint.hpp"
#include "llama/gguf_tokenizer.hpp"

namespace llama {

/// A GGUF file (version 2 or 3, little-endian) of the architectures llama, to which Mistral belongs, and qwen2.
/// Matrices are views into the mapped file, norms and biases are converted to float. Throws FileError naming what
/// is wrong with the file or what of it is not supported; a weight that nothing would use is refused, too.
Checkpoint read_gguf(const std::string& path);

/// The same without the weights.
Config read_gguf_config(const std::string& path);

/// The tokenizer in the file.
GgufVocabulary read_gguf_vocabulary(const std::string& path);

}  // namespace llama
