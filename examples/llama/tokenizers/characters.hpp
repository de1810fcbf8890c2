// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string_view>

// What the characters of a UTF-8 text are, where tokenizers ask for it.
namespace llama {

/// Bytes of white space at the beginning of a text.
std::size_t leading_space(std::string_view text);

/// Where the white space at the end of a text begins.
std::size_t trailing_space(std::string_view text);

/// Whether a text begins or ends with a letter, a mark, a digit or an underscore.
bool begins_with_word(std::string_view text);
bool ends_with_word(std::string_view text);

}  // namespace llama
