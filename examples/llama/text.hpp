// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "llama/config.hpp"
#include "llama/file.hpp"
#include "llama/long_text.hpp"
#include "llama/tokenizer.hpp"
#include "llama/utf8.hpp"

// From the command line's names and texts to tokens, and numbers to text.
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

/// printf into a string.
template <class... Values>
std::string format(const char* pattern, Values... values) {
    char text[256];
    std::snprintf(text, sizeof text, pattern, values...);
    return text;
}

/// "1.25 MiB"
inline std::string format_bytes(Index bytes) {
    static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
    return unit == 0 ? std::to_string(bytes) + " B"
                     : format("%.*f %s",
                              value < 10    ? 2
                              : value < 100 ? 1
                                            : 0,
                              value, units[unit]);
}

/// "1:02:03" or "2:03"
inline std::string format_duration(double seconds) {
    const auto whole = std::llround(seconds);
    if (whole >= 3600) return format("%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    return format("%lld:%02lld", whole / 60, whole % 60);
}

}  // namespace llama
