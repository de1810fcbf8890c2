// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include "llama/tokenizers/chat_template.hpp"

namespace llama {

/// The text of the template that comes with a model: in a GGUF file, or in its directory chat_template.jinja,
/// tokenizer_config.json or chat_template.json. None if there is none. Throws FileError.
std::optional<std::string> read_chat_template(const std::string& model);

/// The template of that name, or if it is empty the model's own. Throws std::runtime_error with what to do if the model
/// has none or one that is not known, UsageError for an unknown name.
ChatTemplate open_chat_template(const std::string& name, const std::string& model);

}  // namespace llama
