// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "freqkv/config.hpp"
#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"

namespace llama {

using freqkv::Index;

/// Reads values out of a JSON object of a foreign file. A key that is missing or null has no value; one of the
/// wrong kind is a FileError that names it. Does not own.
class JsonObject {
public:
    /// Throws FileError unless `value` is an object. `name` is what messages put before its keys: "", or
    /// "rope_scaling.".
    JsonObject(const nlohmann::json& value, std::string path, std::string name = {})
        : object_(value), path_(std::move(path)), name_(std::move(name)) {
        if (!value.is_object()) throw FileError(path_, (name_.empty() ? "the file" : name_) + " is no JSON object");
    }

    /// Nothing if the value is no whole number, or one that does not fit.
    static std::optional<Index> as_whole(const nlohmann::json& value) {
        if (!value.is_number_integer()) return std::nullopt;
        if (value.is_number_unsigned() &&
            value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
            return std::nullopt;
        }
        return value.get<Index>();
    }

    /// Written, be it as null.
    bool has(const std::string& key) const { return object_.contains(key); }

    /// Null if there is no value.
    const nlohmann::json* find(const std::string& key) const {
        const auto found = object_.find(key);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    std::optional<Index> whole(const std::string& key) const {
        const nlohmann::json* const value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!as_whole(*value)) fail(key, *value, "must be a whole number of at most 63 bits");
        return as_whole(*value);
    }

    std::optional<double> number(const std::string& key) const {
        const nlohmann::json* const value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_number() || !std::isfinite(value->get<double>())) fail(key, *value, "must be a number");
        return value->get<double>();
    }

    std::optional<bool> flag(const std::string& key) const {
        const nlohmann::json* const value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_boolean()) fail(key, *value, "must be true or false");
        return value->get<bool>();
    }

    std::optional<std::string> text(const std::string& key) const {
        const nlohmann::json* const value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_string()) fail(key, *value, "must be a string");
        return value->get<std::string>();
    }

    /// Throws FileError where there is no value.
    template <class Value>
    Value required(const std::string& key, const std::optional<Value>& value) const {
        if (!value) throw FileError(path_, name_ + key + " is missing");
        return *value;
    }
    Index required_whole(const std::string& key) const { return required(key, whole(key)); }
    double required_number(const std::string& key) const { return required(key, number(key)); }

    /// Throws FileError "<path>: <key> is <value>, <allowed>".
    [[noreturn]] void fail(const std::string& key, const nlohmann::json& value, const std::string& allowed) const {
        const bool composed = value.is_structured();
        const std::string shown = value.is_string() ? in_quotes(value.get_ref<const std::string&>())
                                  : composed        ? std::string(value.is_array() ? "a list" : "an object")
                                                    : value.dump();
        throw FileError(path_, name_ + key + " is " + shown + ", " + allowed);
    }

    const std::string& path() const { return path_; }

private:
    const nlohmann::json& object_;
    std::string path_;
    std::string name_;
};

}  // namespace llama
