// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/tokenizers/tokenizer_json.hpp"

namespace llama {

/// Reads values out of a tokenizer.json. What is missing is null.
class TokenizerJsonReader {
public:
    using json = nlohmann::json;

    explicit TokenizerJsonReader(const std::string& path) : path_(path) {}

    static const json& member(const json& object, const char* key) {
        static const json none;
        const auto found = object.is_object() ? object.find(key) : object.end();
        return found == object.end() ? none : *found;
    }

    bool flag(const json& object, const char* key, bool otherwise = false) const {
        const json& value = member(object, key);
        if (value.is_null()) return otherwise;
        if (!value.is_boolean()) fail(std::string(key) + " is " + shown(value) + ", must be true or false");
        return value.get<bool>();
    }

    std::string text(const json& value, const std::string& name) const {
        if (!value.is_string()) fail(name + " is " + shown(value) + ", must be a text");
        return value.get<std::string>();
    }

    /// An id below `limit`.
    std::size_t id(const json& value, const std::string& name, std::size_t limit) const {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= limit) {
            fail(name + " has the id " + shown(value) + ", must be at least 0 and below " + std::to_string(limit) +
                 " in a file with as many tokens");
        }
        return value.get<std::size_t>();
    }

    /// A Sequence's steps, which it has under `key`, or the one step that it is.
    std::vector<const json*> steps(const json& sequence, const char* key) const {
        if (sequence.is_null()) return {};
        if (member(sequence, "type") != "Sequence") return {&sequence};
        const json& list = member(sequence, key);
        if (!list.is_array()) fail(std::string("a Sequence has no list of ") + key);
        std::vector<const json*> all;
        for (const json& step : list) all.push_back(&step);
        return all;
    }

    static std::string shown(const json& value) {
        if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
        if (value.is_structured()) return value.is_array() ? "a list" : "an object";
        return value.dump();
    }

    [[noreturn]] void fail(const std::string& reason) const { throw FileError(path_, reason); }

    /// A kind of tokenizer that is not supported.
    [[noreturn]] void refuse(const std::string& what) const {
        throw UnsupportedTokenizer(path_, what +
                                              " is not supported: only byte-pair encodings as those of LLaMA and "
                                              "GPT-2 are; a tokenizer.model beside it would be read");
    }

    const std::string& path() const { return path_; }

private:
    const std::string& path_;
};

}  // namespace llama
