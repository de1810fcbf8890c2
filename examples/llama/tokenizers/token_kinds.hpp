// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "llama/tokenizers/tokenizer.hpp"

// What the tokens of a text are parts of, as far as its characters tell.
namespace llama {

enum class TokenKind : std::uint8_t {
    word,    ///< letters; also a capitalised word where that says nothing: at the beginning of a sentence or quotation
    name,    ///< a capitalised word of two letters or more, behind white space within a sentence
    number,  ///< what begins with a digit: 1890, 3.14, 10th
    code,    ///< camelCase, snake_case, letters with digits, a word before ( or ::
    symbol,  ///< of mathematics, currency and markup, and # % & * / @ \ [ ] { }
    punctuation,  ///< other punctuation
    other         ///< white space alone, and control tokens
};

inline constexpr std::array all_token_kinds{TokenKind::word, TokenKind::name,   TokenKind::number,
                                            TokenKind::code, TokenKind::symbol, TokenKind::punctuation,
                                            TokenKind::other};

const char* to_string(TokenKind kind);

/// The kind of each byte of a text; bytes that are no UTF-8 are `other`, as white space is.
std::vector<TokenKind> kinds_of_bytes(std::string_view text);

/// The kind of each token: that of its first byte that is not `other`.
std::vector<TokenKind> kinds_of_tokens(std::span<const Token> tokens, const Tokenizer& tokenizer);

}  // namespace llama
