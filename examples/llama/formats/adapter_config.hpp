// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "llama/model/config.hpp"

namespace llama {

/// The adapter_config.json of a LoRA adapter in PEFT's layout: how large its matrices are and how much they count.
/// Modules have names like "model.layers.0.self_attn.q_proj".
class AdapterConfig {
public:
    /// Throws FileError for what is missing, and by name for what is not supported (DoRA, biases, ways to begin that
    /// change the base).
    explicit AdapterConfig(const std::string& path);

    /// Of B A: alpha / rank, or alpha / sqrt(rank) with rank-stabilised LoRA. Throws FileError for a pattern that
    /// is no plain name.
    double scale(std::string_view module) const;

    /// At least 1. Throws FileError as scale() does.
    Index rank(std::string_view module) const;

    /// A replaced embedding replaces a classifier that shares it, too.
    bool keeps_tied() const { return keeps_tied_; }

private:
    std::optional<double> number_of(const char* pattern, std::string_view module) const;

    std::string path_;
    nlohmann::json json_;
    Index rank_ = 0;
    double alpha_ = 0;
    bool root_of_rank_ = false;
    bool keeps_tied_ = false;
};

}  // namespace llama
