// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

/// Where --json goes: a file, written all at once at the end, or "-" for standard output.
class JsonOutput {
public:
    /// Throws FileError now if the file cannot be written later. An empty path means no output.
    explicit JsonOutput(const std::string& path) : to_stdout_(path == "-") {
        if (!path.empty() && !to_stdout_) file_.emplace(path);
    }

    /// Standard output is for the JSON object alone.
    bool takes_stdout() const { return to_stdout_; }

    void write(const nlohmann::ordered_json& object) const {
        const std::string text = object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
        if (to_stdout_) TextOutput().write(text);
        if (file_) file_->write(text);
    }

private:
    bool to_stdout_;
    std::optional<AtomicFile> file_;
};

/// The settings that a result belongs to.
inline nlohmann::ordered_json to_json(const CacheSettings& settings) {
    nlohmann::ordered_json json{{"policy", to_string(settings.policy)}, {"cache_type", to_string(settings.type)}};
    if (!settings.grows()) {
        json["capacity"] = settings.sizes.capacity;
        json["sinks"] = settings.sizes.sinks;
        json["recent"] = settings.sizes.recent;
        json["ratio"] = settings.ratio;
    }
    return json;
}

}  // namespace llama
