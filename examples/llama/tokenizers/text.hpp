// SPDX-License-Identifier: MIT
#pragma once

#include <cstdio>
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

/// The tokens of a text to go on with: after BOS if the tokenizer has it. `name` says in errors where the text came
/// from. Throws FileError if the text is not UTF-8 or has a token that a model of `vocabulary` does not have, and warns
/// of a second BOS. `threads` and `progress` as in encode_long_text().
inline std::vector<Token> encode_prompt(const Tokenizer& tokenizer, std::string_view text, const std::string& name,
                                        Index vocabulary, int threads = 1, const TextProgress& progress = {}) {
    if (const auto offset = first_invalid_utf8(text)) {
        throw FileError(name, "not UTF-8 at byte " + std::to_string(*offset));
    }
    std::vector<Token> tokens = encode_long_text(tokenizer, text, threads, progress);
    const Token begin = tokenizer.begin_of_text();
    if (begin >= 0 && !tokens.empty() && tokens.front() == begin) {
        std::fprintf(
            stderr,
            "freqkv-llama: warning: %s: the text begins with the begin-of-text token, and another is put before "
            "it, as the tokenizer does with every text\n",
            name.c_str());
    }
    if (begin >= 0) tokens.insert(tokens.begin(), begin);
    check_tokens(tokens, vocabulary, name);
    return tokens;
}

/// The same for a text that is complete: before EOS where the tokenizer puts it there.
inline std::vector<Token> encode_text(const Tokenizer& tokenizer, std::string_view text, const std::string& name,
                                      Index vocabulary, int threads = 1, const TextProgress& progress = {}) {
    std::vector<Token> tokens = encode_prompt(tokenizer, text, name, vocabulary, threads, progress);
    if (tokenizer.appended_end() >= 0) tokens.push_back(tokenizer.appended_end());
    check_tokens(tokens, vocabulary, name);
    return tokens;
}

}  // namespace llama
