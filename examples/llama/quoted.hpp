// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace llama {

/// A foreign text as a message may show it: in quotes, on one line, in ASCII, its beginning if it is long.
inline std::string in_quotes(std::string_view text) {
    constexpr std::size_t longest = 64;
    const nlohmann::json shown = std::string(text.substr(0, longest));
    return shown.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + (text.size() > longest ? "..." : "");
}

}  // namespace llama
