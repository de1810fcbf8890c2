// SPDX-License-Identifier: MIT
#include "llama/tokenizers/characters.hpp"

#include <utf8proc.h>

namespace llama {

namespace {

using Character = utf8proc_int32_t;

struct Decoded {
    Character character = -1;
    std::size_t bytes = 0;  // 0: the text is empty, or does not begin with a character
};

Decoded first_of(std::string_view text) {
    Decoded first;
    const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                        static_cast<utf8proc_ssize_t>(text.size()), &first.character);
    if (bytes > 0) first.bytes = static_cast<std::size_t>(bytes);
    return first;
}

Decoded last_of(std::string_view text) {
    std::size_t begin = text.size();
    while (begin > 0) {
        --begin;
        if ((static_cast<unsigned char>(text[begin]) & 0xC0) != 0x80) break;
    }
    return first_of(text.substr(begin));
}

// Unicode's property White_Space.
bool is_space(Character c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// What \w means in Unicode's recommendations for regular expressions: Alphabetic, marks, digits, connectors, joiners.
bool is_word(Character c) {
    switch (utf8proc_category(c)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC:
            return true;
        default:
            // Joiners, and letters in circles and squares, which are symbols and yet alphabetic.
            return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                   (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}

}  // namespace

std::size_t leading_space(std::string_view text) {
    std::size_t bytes = 0;
    while (true) {
        const Decoded next = first_of(text.substr(bytes));
        if (next.bytes == 0 || !is_space(next.character)) return bytes;
        bytes += next.bytes;
    }
}

std::size_t trailing_space(std::string_view text) {
    std::size_t end = text.size();
    while (true) {
        const Decoded previous = last_of(text.substr(0, end));
        if (previous.bytes == 0 || !is_space(previous.character)) return end;
        end -= previous.bytes;
    }
}

bool begins_with_word(std::string_view text) {
    const Decoded first = first_of(text);
    return first.bytes != 0 && is_word(first.character);
}

bool ends_with_word(std::string_view text) {
    const Decoded last = last_of(text);
    return last.bytes != 0 && is_word(last.character);
}

}  // namespace llama
