// SPDX-License-Identifier: MIT
#include "llama/training/made_with.hpp"

namespace llama {

std::optional<ChangedOption> find_changed_option(const nlohmann::json& before, const nlohmann::ordered_json& now) {
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
