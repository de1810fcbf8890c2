// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "llama/model/config.hpp"

namespace llama {

/// What the config.json of a Hugging Face model says.
struct HuggingFaceConfig {
    Config config;
    std::string family;    ///< for people: "Llama", "Gemma 2"
    std::string prefix{};  ///< of the tensors' names, where there are those of a model for images beside them
};

/// Missing values are those that transformers takes. Throws FileError for an architecture, or a setting of it, that
/// would be computed differently here. `path` is for messages.
HuggingFaceConfig parse_hugging_face_config(const nlohmann::json& json, const std::string& path);

/// Adds the end-of-text tokens of a generation_config.json.
void add_end_of_text(Config& config, const nlohmann::json& generation_config, const std::string& path);

}  // namespace llama
