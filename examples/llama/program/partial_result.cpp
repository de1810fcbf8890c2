// SPDX-License-Identifier: MIT
#include "llama/program/partial_result.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "llama/io/atomic_file.hpp"
#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/training/made_with.hpp"

namespace llama {

namespace {

// Names of files need not be UTF-8.
std::string dump(const PartialResult::Json& json) {
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

// As a file gives it back, to be compared with it.
PartialResult::PartialResult(std::string path, const Json& made_with)
    : path_(std::move(path)), made_with_(Json::parse(dump(made_with))) {}

nlohmann::json PartialResult::load(std::size_t most) const {
    std::error_code error;
    if (!std::filesystem::exists(path_, error)) return nullptr;
    nlohmann::json saved = read_json(path_, most);
    if (!saved.is_object() || !saved["made_with"].is_object()) throw FileError(path_, "no partial result");
    if (const auto changed = find_changed_option(saved["made_with"], made_with_)) {
        throw UsageError("--resume: " + path_ + " was made with " + changed->name + " " + changed->before.dump() +
                         ", not " + changed->now.dump());
    }
    return std::move(saved["state"]);
}

void PartialResult::save(const Json& state) {
    const auto start = std::chrono::steady_clock::now();
    AtomicFile(path_).write(dump({{"made_with", made_with_}, {"state", state}}) + "\n");
    const auto end = std::chrono::steady_clock::now();
    next_ = end + std::max<std::chrono::steady_clock::duration>(std::chrono::seconds(1), 50 * (end - start));
}

void PartialResult::remove() const { ::unlink(path_.c_str()); }

}  // namespace llama
