// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace llama {

/// JSON of a foreign file: refused, with FileError, if it is no JSON, nested deeper or of more values than any of the
/// formats needs, or if an object has a key twice, which readers disagree about. `path` is for the message.
nlohmann::json parse_json(std::span<const std::byte> bytes, const std::string& path);

/// A JSON file of at most `most` bytes.
nlohmann::json read_json(const std::string& path, std::size_t most = std::size_t{64} << 20);

}  // namespace llama
