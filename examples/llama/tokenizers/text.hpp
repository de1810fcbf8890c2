// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/io/utf8.hpp"
#include "llama/model/config.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

/// Throws FileError if a token that a tokenizer gave is none of a model of `vocabulary`.
inline void check_tokens(const std::vector<Token>& tokens, Index vocabulary, const std::string& name) {
    for (const Token token : tokens) {
        if (token >= vocabulary) {
            throw FileError(name, "the tokenizer gives token " + std::to_string(token) +
                                      ", the model's vocabulary has " + std::to_string(vocabulary));
        }
    }
}

/// The tokens of `text`, after BOS if the tokenizer has it. `name` says in the error where the text came from.
/// Throws FileError if the text is not UTF-8 or has a token that a model of `vocabulary` does not have. `threads`
/// and `progress` as in encode_long_text().
inline std::vector<Token> encode_text(const Tokenizer& tokenizer, std::string_view text, const std::string& name,
                                      Index vocabulary, int threads = 1, const TextProgress& progress = {}) {
    if (const auto offset = first_invalid_utf8(text)) {
        throw FileError(name, "not UTF-8 at byte " + std::to_string(*offset));
    }
    std::vector<Token> tokens = encode_long_text(tokenizer, text, threads, progress);
    if (tokenizer.begin_of_text() >= 0) tokens.insert(tokens.begin(), tokenizer.begin_of_text());
    check_tokens(tokens, vocabulary, name);
    return tokens;
}

}  // namespace llama
