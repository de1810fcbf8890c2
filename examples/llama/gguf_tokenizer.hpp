// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama/tokenizer.hpp"

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
    std::optional<bool> add_bos;           ///< whether a text begins with BOS; otherwise the kind of tokenizer says it
    std::optional<bool> add_space_prefix;  ///< of SentencePiece only; otherwise yes
};

/// Throws FileError with `path` if the parts do not fit together, and for kinds that are not supported, naming
/// those that are.
std::unique_ptr<Tokenizer> make_gguf_tokenizer(GgufVocabulary vocabulary, const std::string& path);

}  // namespace llama
