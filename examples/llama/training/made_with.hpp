// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace llama {

/// An option that had another value in an earlier run; null: none.
struct ChangedOption {
    std::string name;
    nlohmann::json before;
    nlohmann::json now;
};

/// The first of the options that an earlier run had otherwise, in their order now. Both are objects of what a result
/// depends on.
std::optional<ChangedOption> find_changed_option(const nlohmann::json& before, const nlohmann::ordered_json& now);

}  // namespace llama
