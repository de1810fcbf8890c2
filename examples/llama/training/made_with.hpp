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
inline std::optional<ChangedOption> find_changed_option(const nlohmann::json& before,
                                                        const nlohmann::ordered_json& now) {
    for (const auto& [name, ordered] : now.items()) {
        const nlohmann::json value = ordered;
        const auto found = before.find(name);
        if (found == before.end()) return ChangedOption{name, nullptr, value};
        if (*found != value) return ChangedOption{name, *found, value};
    }
    for (const auto& [name, value] : before.items()) {
        if (!now.contains(name)) return ChangedOption{name, value, nullptr};
    }
    return std::nullopt;
}

}  // namespace llama
