// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "llama/checkpoint.hpp"
#include "llama/config.hpp"
#include "llama/file.hpp"
#include "llama/tokenizer.hpp"
#include "llama/utf8.hpp"

// From the command line's names and texts to tokens, and numbers to text.
namespace llama {

/// `given`, or if that is empty the tokenizer beside the model: the first that exists of <model without
/// extension>.tokenizer.bin, tok<vocabulary size>.bin, tokenizer.bin. Throws FileError with their names.
inline std::string find_tokenizer(const std::string& given, const Checkpoint& checkpoint) {
    if (!given.empty()) return given;
    const std::filesystem::path model(checkpoint.path());
    std::string tried;
    for (const std::string& name :
         {model.stem().string() + ".tokenizer.bin", "tok" + std::to_string(checkpoint.config().vocabulary) + ".bin",
          std::string("tokenizer.bin")}) {
        std::error_code error;
        const std::filesystem::path candidate = model.parent_path() / name;
        if (std::filesystem::exists(candidate, error)) return candidate.string();
        tried += (tried.empty() ? "" : ", ") + name;
    }
    throw FileError(checkpoint.path(), "no tokenizer beside the model (looked for " + tried + "); give --tokenizer");
}

/// BOS and the tokens of `text`. `name` says in the error where the text came from. Throws
/// std::runtime_error if the text is not UTF-8.
inline std::vector<Token> encode_text(const Tokenizer& tokenizer, std::string_view text, const std::string& name) {
    if (const auto offset = first_invalid_utf8(text)) {
        throw std::runtime_error(name + ": not UTF-8 at byte " + std::to_string(*offset));
    }
    std::vector<Token> tokens = tokenizer.encode(text);
    tokens.insert(tokens.begin(), begin_of_text);
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
