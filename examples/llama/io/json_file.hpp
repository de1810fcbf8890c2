// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace llama {

/// A container of a JSON file that may have millions of members, which are handed over one by one instead of being
/// kept.
struct JsonMembers {
    enum class Of : std::uint8_t { array, object };

    std::string place;  ///< the keys that lead to it, as in "/model/merges"; "": the file itself
    Of of;              ///< a container of the other kind is kept

    /// Called with each member of an object, or with each element of an array and an empty key. False says that there
    /// was such a key already. What it throws leaves parse_json() as it is.
    std::function<bool(const std::string& key, const nlohmann::json& value)> take;
};

/// JSON of a foreign file: refused, with FileError, if it is no JSON, nested deeper than any of the formats needs, or
/// if an object has a key twice, which readers disagree about; also if what it says would take more memory than 32 MiB
/// and twice its size. Time is linear in the size. `path` is for the message. Containers of `streamed` are empty in
/// the result, and each of their members may take that memory.
nlohmann::json parse_json(std::span<const std::byte> bytes, const std::string& path,
                          std::span<const JsonMembers> streamed = {});

/// A JSON file of at most `most` bytes.
nlohmann::json read_json(const std::string& path, std::size_t most = std::size_t{64} << 20,
                         std::span<const JsonMembers> streamed = {});

}  // namespace llama
