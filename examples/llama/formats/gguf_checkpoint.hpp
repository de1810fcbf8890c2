// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llama/model/checkpoint.hpp"

namespace llama {

/// The vocabulary of a GGUF file: its metadata under tokenizer.ggml, as they stand there.
struct GgufVocabulary {
    std::string model;                     ///< "llama": SentencePiece; "gpt2": byte-level BPE
    std::string pre;                       ///< how a byte-level BPE cuts texts: "llama-bpe", "qwen2"
    std::vector<std::string> tokens;       ///< by id
    std::vector<float> scores;             ///< [tokens]; of SentencePiece only
    std::vector<std::int32_t> types;       ///< [tokens]: as PieceType numbers them
    std::vector<std::string> merges;       ///< "a b", the best first; of byte-level BPE only
    Token bos = -1;                        ///< -1: none
    Token eos = -1;                        ///< -1: none
    std::vector<Token> other_ends;         ///< of turns, messages, files: the model says them when it is done
    std::optional<bool> add_bos, add_eos;  ///< what a text is put between; otherwise the kind of tokenizer says it
    std::optional<bool> add_space_prefix;  ///< of SentencePiece only; otherwise yes
};

/// A GGUF file (version 2 or 3, little-endian), or the first part of a split one, of the architectures of
/// docs/checkpoints.md. Matrices are views into the mapped file, norms and biases are converted to float. Throws
/// FileError naming what is wrong with the file or what of it is not supported; a weight that nothing would use is
/// refused, too.
Checkpoint read_gguf(const std::string& path);

/// The same without the weights.
Config read_gguf_config(const std::string& path);

/// Whether the file begins as a GGUF file does. Throws FileError if it cannot be read.
bool is_gguf(const std::string& path);

/// The tokenizer in the file.
GgufVocabulary read_gguf_vocabulary(const std::string& path);

}  // namespace llama
