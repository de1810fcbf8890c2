// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "llama/config.hpp"

namespace llama {

/// What a GGUF file says of its tokenizer.
struct GgufVocabulary {
    std::string model;                ///< "llama" (SentencePiece) or "gpt2" (byte-level BPE)
    std::string pre;                  ///< how a text is split before BPE
    std::vector<std::string> tokens;  ///< by id
    std::vector<float> scores;        ///< of each token; empty: none
    std::vector<std::int32_t> types;  ///< of each token; empty: none
    std::vector<std::string> merges;  ///< "left right", the first first
    Token bos = -1;                   ///< -1: none
    Token eos = -1;                   ///< -1: none
    std::optional<bool> add_bos;
    std::optional<bool> add_space_prefix;
};

}  // namespace llama
