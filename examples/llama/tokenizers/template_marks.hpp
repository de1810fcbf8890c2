// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama/tokenizers/chat_template.hpp"

// What the text of a chat template shows to a reader that does not run it.
namespace llama {

bool has(std::string_view text, std::string_view part);

/// The family whose marks are in it; none that is known.
std::optional<ChatTemplate::Family> find_family(std::string_view jinja);

/// What a ChatML template itself says as the system's words: they are in its text, between the marks, where otherwise
/// the name of a variable is. Empty: nothing.
std::string find_default_system(std::string_view jinja);

/// The texts in double quotes that begin so, without the white space at their ends.
std::vector<std::string> find_literals(std::string_view jinja, std::string_view begin);

}  // namespace llama
