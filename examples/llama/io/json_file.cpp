// SPDX-License-Identifier: MIT
#include "llama/io/json_file.hpp"

#include <new>
#include <stdexcept>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"

namespace llama {

nlohmann::json parse_json(std::span<const std::byte> bytes, const std::string& path) {
    constexpr int deepest = 32;
    constexpr std::size_t most_values = std::size_t{1} << 24;  // each may take fifty times its bytes in the file
    std::size_t values = 0;
    const auto* const begin = reinterpret_cast<const char*>(bytes.data());
    using Event = nlohmann::json::parse_event_t;
    std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
    const auto check = [&](int depth, Event event, nlohmann::json& parsed) {
        if (depth > deepest) throw std::runtime_error("nested deeper than " + std::to_string(deepest) + " levels");
        const bool begins_value = event == Event::object_start || event == Event::array_start || event == Event::value;
        if (begins_value && ++values > most_values) {
            throw std::runtime_error("more than " + std::to_string(most_values) + " values");
        }
        if (event == Event::object_start) keys.emplace_back();
        if (event == Event::object_end) keys.pop_back();
        if (event == Event::key && !keys.back().insert(parsed.get_ref<const std::string&>()).second) {
            throw std::runtime_error("an object has the key " + in_quotes(parsed.get_ref<const std::string&>()) +
                                     " twice");
        }
        return true;
    };
    try {
        return nlohmann::json::parse(begin, begin + bytes.size(), check);
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& error) {
        throw FileError(path, std::string("no usable JSON: ") + error.what());
    }
}

nlohmann::json read_json(const std::string& path, std::size_t most) {
    const MappedFile file(path);
    if (file.bytes().size() > most) {
        throw FileError(path,
                        std::to_string(file.bytes().size()) + " bytes; at most " + std::to_string(most) + " are read");
    }
    return parse_json(file.bytes(), path);
}

}  // namespace llama
