// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

namespace llama {

/// What a long run has so far, in a file from which another run with the same options goes on.
class PartialResult {
public:
    using Json = nlohmann::ordered_json;

    /// `made_with`: all that the result depends on, as an object.
    PartialResult(std::string path, const Json& made_with);

    /// What an earlier run saved, of at most `most` bytes; null if it saved nothing. Throws FileError for what is no
    /// partial result, and UsageError if it was made with other options.
    nlohmann::json load(std::size_t most) const;

    /// Saves what make() returns if the last time is long enough ago: a second, or, for long results, so long that
    /// saving takes a small part of the time. Throws FileError.
    template <class F>
    void save_sometimes(F&& make) {
        if (std::chrono::steady_clock::now() >= next_) save(make());
    }

    void save(const Json& state);

    void remove() const;

    const std::string& path() const { return path_; }

private:
    std::string path_;
    Json made_with_;
    std::chrono::steady_clock::time_point next_{};
};

}  // namespace llama
