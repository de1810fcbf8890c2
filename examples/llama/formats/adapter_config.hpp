// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/formats/module_patterns.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// The adapter_config.json of a LoRA adapter in PEFT's layout: how large its matrices are, how much they count, and
/// what else was trained. Modules have names like "model.layers.0.self_attn.q_proj".
class AdapterConfig {
public:
    /// Throws FileError for what is missing, and by name for what is not supported (DoRA, biases, ways to begin that
    /// change the base). Fields that PEFT does not know either are ignored with a note, as PEFT does.
    explicit AdapterConfig(const std::string& path);

    /// Of B A: alpha / rank, or alpha / sqrt(rank) with rank-stabilised LoRA.
    double scale(std::string_view module) const;

    /// At least 1.
    Index rank(std::string_view module) const;

    /// A copy of the module's weights was trained, apart from those of the model.
    bool saves(std::string_view module) const;

    /// What is trained of a shared embedding or classifier stays shared.
    bool keeps_tied() const { return keeps_tied_; }

    /// The tokens whose rows of a module were trained alone; null: none. Those of the embedding are those of a
    /// classifier that has none of its own, too.
    const std::vector<Index>* tokens_of(std::string_view module) const;

private:
    std::string path_;
    Index rank_ = 0;
    double alpha_ = 0;
    bool root_of_rank_ = false;
    bool keeps_tied_ = false;
    ModulePatterns ranks_;
    ModulePatterns alphas_;
    std::vector<std::string> modules_to_save_;
    std::vector<std::pair<std::string, std::vector<Index>>> tokens_;  // by the ends of modules' names
};

}  // namespace llama
