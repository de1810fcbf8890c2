// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/training/made_with.hpp"

namespace llama {

/// What a long run has so far, in a file from which another run with the same options goes on.
class PartialResult {
public:
    using Json = nlohmann::ordered_json;

    /// `made_with`: all that the result depends on, as an object.
    PartialResult(std::string path, Json made_with) : path_(std::move(path)), made_with_(std::move(made_with)) {}

    /// What an earlier run saved; null if it saved nothing. Throws FileError for what is no partial result, and
    /// UsageError if it was made with other options.
    nlohmann::json load() const {
        std::error_code error;
        if (!std::filesystem::exists(path_, error)) return nullptr;
        nlohmann::json saved = read_json(path_);
        if (!saved.is_object() || !saved["made_with"].is_object()) throw FileError(path_, "no partial result");
        if (const auto changed = find_changed_option(saved["made_with"], made_with_)) {
            throw UsageError("--resume: " + path_ + " was made with " + changed->name + " " + changed->before.dump() +
                             ", not " + changed->now.dump());
        }
        return std::move(saved["state"]);
    }

    /// Saves what make() returns if the last time is long enough ago: a second, or, for long results, so long that
    /// saving takes a small part of the time. Throws FileError.
    template <class F>
    void save_sometimes(F&& make) {
        const auto now = std::chrono::steady_clock::now();
        if (now >= next_) save(make());
    }

    void save(const Json& state) {
        const auto start = std::chrono::steady_clock::now();
        AtomicFile(path_).write(Json{{"made_with", made_with_}, {"state", state}}.dump() + "\n");
        const auto end = std::chrono::steady_clock::now();
        next_ = end + std::max<std::chrono::steady_clock::duration>(std::chrono::seconds(1), 50 * (end - start));
    }

    void remove() const { ::unlink(path_.c_str()); }

    const std::string& path() const { return path_; }

private:
    std::string path_;
    Json made_with_;
    std::chrono::steady_clock::time_point next_{};
};

}  // namespace llama
