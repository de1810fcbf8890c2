// SPDX-License-Identifier: MIT
#include "llama/program/json_output.hpp"

#include <nlohmann/json.hpp>

#include "llama/program/terminal.hpp"

namespace llama {

JsonOutput::JsonOutput(const std::string& path) : to_stdout_(path == "-") {
    if (!path.empty() && !to_stdout_) file_.emplace(path);
}

void JsonOutput::write(const nlohmann::ordered_json& object) const {
    const std::string text = object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (to_stdout_) TextOutput().write(text);
    if (file_) file_->write(text);
}

nlohmann::ordered_json to_json(const CacheSettings& settings) {
    nlohmann::ordered_json json{{"policy", to_string(settings.policy)}, {"cache_type", to_string(settings.type)}};
    for (const PolicyParameter& parameter : traits_of(settings.policy).parameters) {
        if (parameter.name != nullptr) json["parameters"][parameter.name] = settings.parameter(parameter.name);
    }
    if (!settings.grows()) {
        json["capacity"] = settings.sizes.capacity;
        if (!settings.sizes.head_capacities.empty()) json["head_capacities"] = settings.sizes.head_capacities;
        json["sinks"] = settings.sizes.sinks;
        json["recent"] = settings.sizes.recent;
        json["ratio"] = settings.ratio;
        if (settings.sizes.text_positions) json["positions"] = "text";
        if (settings.sizes.weighted) json["weighted"] = true;
    }
    return json;
}

}  // namespace llama
