// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "llama/file.hpp"

namespace llama {

/// JSON of a foreign file: refused, with FileError, if it is no JSON or nested deeper than any of the formats
/// needs. `path` is for the message.
inline nlohmann::json parse_json(std::span<const std::byte> bytes, const std::string& path) {
    constexpr int deepest = 32;
    const auto* const begin = reinterpret_cast<const char*>(bytes.data());
    const auto check_depth = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        if (depth > deepest) throw std::runtime_error("nested deeper than " + std::to_string(deepest) + " levels");
        return true;
    };
    try {
        return nlohmann::json::parse(begin, begin + bytes.size(), check_depth);
    } catch (const std::exception& error) {
        throw FileError(path, std::string("no usable JSON: ") + error.what());
    }
}

/// A JSON file of at most `most` bytes.
inline nlohmann::json read_json(const std::string& path, std::size_t most = std::size_t{64} << 20) {
    const MappedFile file(path);
    if (file.bytes().size() > most) {
        throw FileError(path,
                        std::to_string(file.bytes().size()) + " bytes; at most " + std::to_string(most) + " are read");
    }
    return parse_json(file.bytes(), path);
}

}  // namespace llama
