// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "freqkv/config.hpp"
#include "llama/io/file.hpp"

namespace llama {

using freqkv::Index;

/// Reads values out of a JSON object of a foreign file. A key that is missing or null has no value; one of the
/// wrong kind is a FileError that names it. Does not own.
class JsonObject {
public:
    /// Throws FileError unless `value` is an object. `name` is what messages put before its keys: "", or
    /// "rope_scaling.".
    JsonObject(const nlohmann::json& value, std::string path, std::string name = {});

    /// Nothing if the value is no whole number, or one that does not fit.
    static std::optional<Index> as_whole(const nlohmann::json& value);

    /// Written, be it as null.
    bool has(const std::string& key) const;

    /// Null if there is no value.
    const nlohmann::json* find(const std::string& key) const;

    std::optional<Index> whole(const std::string& key) const;
    std::optional<double> number(const std::string& key) const;
    std::optional<bool> flag(const std::string& key) const;
    std::optional<std::string> text(const std::string& key) const;

    /// Throws FileError where there is no value.
    template <class Value>
    Value required(const std::string& key, const std::optional<Value>& value) const {
        if (!value) throw FileError(path_, name_ + key + " is missing");
        return *value;
    }
    Index required_whole(const std::string& key) const { return required(key, whole(key)); }
    double required_number(const std::string& key) const { return required(key, number(key)); }

    /// Throws FileError "<path>: <key> is <value>, <allowed>".
    [[noreturn]] void fail(const std::string& key, const nlohmann::json& value, const std::string& allowed) const;

    const std::string& path() const { return path_; }

private:
    const nlohmann::json& object_;
    std::string path_;
    std::string name_;
};

}  // namespace llama
