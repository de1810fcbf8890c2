// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

// How SentencePiece writes pieces, which other tokenizers have taken over.
namespace llama {

/// U+2581, which stands for a space.
inline constexpr std::string_view space_mark = "\xe2\x96\x81";

/// The text of a piece.
inline std::string unmark_spaces(std::string_view piece) {
    std::string text;
    for (std::size_t at = 0; at < piece.size();) {
        if (piece.substr(at).starts_with(space_mark)) {
            text += ' ';
            at += space_mark.size();
        } else {
            text += piece[at++];
        }
    }
    return text;
}

/// The byte of a piece "<0xHH>"; nothing for any other.
inline std::optional<char> byte_of_token(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
    unsigned value = 0;
    for (const char c : piece.substr(3, 2)) {
        const bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && (c < 'A' || c > 'F')) return std::nullopt;
        value = 16 * value + static_cast<unsigned>(is_digit ? c - '0' : c - 'A' + 10);
    }
    return static_cast<char>(value);
}

}  // namespace llama
