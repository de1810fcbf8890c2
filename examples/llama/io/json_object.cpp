// SPDX-License-Identifier: MIT
#include "llama/io/json_object.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/io/in_quotes.hpp"

namespace llama {

JsonObject::JsonObject(const nlohmann::json& value, std::string path, std::string name)
    : object_(value), path_(std::move(path)), name_(std::move(name)) {
    if (!value.is_object()) throw FileError(path_, (name_.empty() ? "the file" : name_) + " is no JSON object");
}

std::optional<Index> JsonObject::as_whole(const nlohmann::json& value) {
    if (!value.is_number_integer()) return std::nullopt;
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
        return std::nullopt;
    }
    return value.get<Index>();
}

bool JsonObject::has(const std::string& key) const { return object_.contains(key); }

const nlohmann::json* JsonObject::find(const std::string& key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<Index> JsonObject::whole(const std::string& key) const {
    const nlohmann::json* const value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!as_whole(*value)) fail(key, *value, "must be a whole number of at most 63 bits");
    return as_whole(*value);
}

std::optional<double> JsonObject::number(const std::string& key) const {
    const nlohmann::json* const value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number() || !std::isfinite(value->get<double>())) fail(key, *value, "must be a number");
    return value->get<double>();
}

std::optional<bool> JsonObject::flag(const std::string& key) const {
    const nlohmann::json* const value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) fail(key, *value, "must be true or false");
    return value->get<bool>();
}

std::optional<std::string> JsonObject::text(const std::string& key) const {
    const nlohmann::json* const value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) fail(key, *value, "must be a string");
    return value->get<std::string>();
}

void JsonObject::fail(const std::string& key, const nlohmann::json& value, const std::string& allowed) const {
    const bool composed = value.is_structured();
    const std::string shown = value.is_string() ? in_quotes(value.get_ref<const std::string&>())
                              : composed        ? std::string(value.is_array() ? "a list" : "an object")
                                                : value.dump();
    throw FileError(path_, name_ + key + " is " + shown + ", " + allowed);
}

}  // namespace llama
