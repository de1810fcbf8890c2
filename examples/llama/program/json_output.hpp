// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "llama/io/atomic_file.hpp"
#include "llama/model/cache_settings.hpp"

namespace llama {

/// Where --json goes: a file, written all at once at the end, or "-" for standard output.
class JsonOutput {
public:
    /// Throws FileError now if the file cannot be written later. An empty path means no output.
    explicit JsonOutput(const std::string& path);

    /// Standard output is for the JSON object alone.
    bool takes_stdout() const { return to_stdout_; }

    void write(const nlohmann::ordered_json& object) const;

private:
    bool to_stdout_;
    std::optional<AtomicFile> file_;
};

/// The settings that a result belongs to.
nlohmann::ordered_json to_json(const CacheSettings& settings);

}  // namespace llama
