// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "llama/io/utf8.hpp"

// Text of a foreign file for a message or a terminal, which take some bytes as commands.
namespace llama {

namespace detail {

/// Adds a character as it is, or byte by byte as \xHH if it is a control character (C0, DEL, C1) or no valid UTF-8.
inline void append_visible(std::string& shown, std::string_view character, bool keep_white_space) {
    const auto first = static_cast<unsigned char>(character.front());
    const bool white_space = keep_white_space && first >= '\t' && first <= '\r';
    const bool c0 = first < 0x20 || first == 0x7f;
    const bool c1 = character.size() == 2 && first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
    const bool invalid = character.size() == 1 && first >= 0x80;
    if (white_space || !(c0 || c1 || invalid)) {
        shown += character;
        return;
    }
    constexpr std::string_view digits = "0123456789abcdef";
    for (const char c : character) {
        const auto byte = static_cast<unsigned char>(c);
        shown.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
    }
}

}  // namespace detail

/// One line: without control characters and bytes that are no UTF-8, which are written as \xHH, and cut off behind
/// `most` bytes.
inline std::string visible(std::string_view text, std::size_t most) {
    std::string shown;
    while (!text.empty()) {
        const std::size_t length = std::max<std::size_t>(utf8_length(text), 1);
        if (length > most) return shown + "...";
        detail::append_visible(shown, text.substr(0, length), false);
        text.remove_prefix(length);
        most -= length;
    }
    return shown;
}

/// The same for a text that comes in pieces, which end anywhere in its characters: white space stays, and nothing is
/// cut off.
class VisibleText {
public:
    /// What can be shown with this piece. A character is, once all of it is there.
    std::string add(std::string_view piece) {
        unfinished_ += piece;
        std::string_view left = unfinished_;
        std::string shown;
        while (!left.empty()) {
            const std::size_t length = utf8_length(left);
            if (length == 0 && may_go_on(left)) break;
            const std::size_t taken = std::max<std::size_t>(length, 1);
            detail::append_visible(shown, left.substr(0, taken), true);
            left.remove_prefix(taken);
        }
        unfinished_.erase(0, unfinished_.size() - left.size());
        return shown;
    }

    /// What is left of a text that ends within a character.
    std::string finish() {
        std::string shown;
        for (const char& byte : unfinished_) detail::append_visible(shown, {&byte, 1}, true);
        unfinished_.clear();
        return shown;
    }

private:
    // Whether a character begins so. One of the least and the greatest byte is allowed behind each first one.
    static bool may_go_on(std::string_view begin) {
        return std::any_of(std::begin(ends), std::end(ends), [&](std::string_view end) {
            return begin.size() < 4 && utf8_length(std::string(begin).append(end)) > begin.size();
        });
    }
    static constexpr std::string_view ends[] = {"\x80\x80\x80", "\xbf\xbf\xbf"};

    std::string unfinished_;
};

}  // namespace llama
