// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "llama/tokenizers/added_tokens.hpp"

namespace llama {

/// What the files beside a tokenizer say about it: tokenizer_config.json, and where that does not, the older
/// special_tokens_map.json and added_tokens.json.
struct TokenizerConfig {
    std::string path;  ///< tokenizer_config.json, for messages
    std::optional<bool> add_bos, add_eos;
    std::string bos, eos;  ///< their texts; empty: none is named
    /// SentencePiece: what follows a control token gets a space at its beginning. So it is where transformers calls
    /// it legacy, which is its default for tokenizers of no class.
    bool space_behind_added = true;
    std::vector<AddedToken> added;
};

/// The files that are there; none is needed. Throws FileError for what is no JSON or of a wrong type.
TokenizerConfig read_tokenizer_config(const std::string& tokenizer);

}  // namespace llama
