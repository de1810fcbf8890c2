// SPDX-License-Identifier: MIT
#include "llama/tokenizers/nfc.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <tuple>
#include <vector>

namespace llama {

namespace {

int combining_class(utf8proc_int32_t character) { return utf8proc_get_property(character)->combining_class; }

std::vector<utf8proc_int32_t> decompose(std::string_view text) {
    constexpr utf8proc_ssize_t longest = 16;  // canonical decompositions have at most 4 characters
    std::vector<utf8proc_int32_t> characters;
    characters.reserve(text.size());
    while (!text.empty()) {
        utf8proc_int32_t character = 0;
        const utf8proc_ssize_t bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                                        static_cast<utf8proc_ssize_t>(text.size()), &character);
        utf8proc_int32_t parts[longest];
        const utf8proc_ssize_t count =
            bytes <= 0 ? bytes
                       : utf8proc_decompose_char(character, parts, longest,
                                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE),
                                                 nullptr);
        if (count <= 0 || count > longest) throw std::runtime_error("the text is not UTF-8");
        characters.insert(characters.end(), parts, parts + count);
        text.remove_prefix(static_cast<std::size_t>(bytes));
    }
    return characters;
}

// utf8proc_map() does the same by insertion, which takes hours for some texts.
void sort_combining_marks(std::vector<utf8proc_int32_t>& characters) {
    std::vector<std::tuple<int, std::size_t, utf8proc_int32_t>> marks;  // class, where it stood, character
    for (std::size_t at = 0; at < characters.size(); ++at) {
        marks.clear();
        for (std::size_t i = at; i < characters.size() && combining_class(characters[i]) != 0; ++i) {
            marks.emplace_back(combining_class(characters[i]), i, characters[i]);
        }
        std::sort(marks.begin(), marks.end());
        for (const auto& mark : marks) characters[at++] = std::get<2>(mark);
    }
}

}  // namespace

std::string to_nfc(std::string_view text) {
    const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
    if (std::all_of(text.begin(), text.end(), is_ascii)) return std::string(text);

    std::vector<utf8proc_int32_t> characters = decompose(text);
    sort_combining_marks(characters);
    const utf8proc_ssize_t count =
        utf8proc_normalize_utf32(characters.data(), static_cast<utf8proc_ssize_t>(characters.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) throw std::runtime_error(utf8proc_errmsg(count));
    std::string composed;
    composed.reserve(text.size());
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        utf8proc_uint8_t bytes[4];
        const utf8proc_ssize_t length = utf8proc_encode_char(characters[i], bytes);
        composed.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
    }
    return composed;
}

}  // namespace llama
