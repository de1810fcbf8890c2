// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llama {

/// A name out of a foreign file for a message of one line: in quotes, without control characters, cut off where
/// it is longer than any sensible name.
inline std::string in_quotes(std::string_view name) {
    constexpr std::size_t most = 120;
    std::string text(name.substr(0, most));
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return '"' + text + (name.size() > most ? "...\"" : "\"");
}

}  // namespace llama
