// SPDX-License-Identifier: MIT
#include "llama/tokenizers/tokenizer_config.hpp"

#include <charconv>
#include <filesystem>
#include <limits>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>

#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"

namespace llama {

namespace {

using nlohmann::json;

class Reader {
public:
    explicit Reader(const std::string& tokenizer) : tokenizer_(tokenizer) {}

    TokenizerConfig read() && {
        config_.path = beside("tokenizer_config.json");
        const json config = read_object(config_.path);
        const std::string map_path = beside("special_tokens_map.json");
        const json map = read_object(map_path);
        const JsonObject object(config, config_.path);
        config_.add_bos = object.flag("add_bos_token");
        config_.add_eos = object.flag("add_eos_token");
        read_special(config, config_.path);
        read_special(map, map_path);
        const std::string kind = object.text("tokenizer_class").value_or("");
        const bool is_llama = kind == "LlamaTokenizer" || kind == "LlamaTokenizerFast";
        config_.space_behind_added = object.flag("legacy").value_or(!is_llama);
        if (const json* const tokens = object.find("added_tokens_decoder"); tokens != nullptr) {
            read_added(*tokens);
        } else {
            const std::string path = beside("added_tokens.json");
            read_older_added(read_object(path), path);
        }
        return std::move(config_);
    }

private:
    std::string beside(const char* name) const {
        return std::filesystem::path(tokenizer_).replace_filename(name).string();
    }

    // Empty where there is no such file.
    static json read_object(const std::string& path) {
        std::error_code error;
        json content = std::filesystem::exists(path, error) ? read_json(path) : json::object();
        if (!content.is_object()) throw FileError(path, "the file is no JSON object");
        return content;
    }

    // A token is its text, or an object with it.
    static std::string text_of(const json& token, const std::string& key, const std::string& path) {
        const json& content = token.is_object() ? token.value("content", json()) : token;
        if (!content.is_string()) {
            JsonObject(json::object(), path).fail(key, token, "must be a text");
        }
        return content.get<std::string>();
    }

    void read_special(const json& object, const std::string& path) {
        for (const auto& [key, value] : object.items()) {
            const bool is_list = key == "additional_special_tokens" || key == "extra_special_tokens";
            if (value.is_null() || (!is_list && !key.ends_with("_token")) || key.starts_with("add_")) continue;
            if (is_list && value.is_array()) {
                for (const json& token : value) special_.insert(text_of(token, key, path));
            }
            // Other keys that end so are none of ours.
            const bool is_used = key == "bos_token" || key == "eos_token";
            if (is_list || (!is_used && !value.is_string() && !value.is_object())) continue;
            const std::string text = text_of(value, key, path);
            special_.insert(text);
            if (key == "bos_token" && config_.bos.empty()) config_.bos = text;
            if (key == "eos_token" && config_.eos.empty()) config_.eos = text;
        }
    }

    void read_added(const json& tokens) {
        if (!tokens.is_object()) throw FileError(config_.path, "added_tokens_decoder is no object");
        for (const auto& [number, token] : tokens.items()) {
            const std::string name = "added_tokens_decoder." + number.substr(0, 32);
            Token id = -1;
            const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
            if (error != std::errc{} || end != number.data() + number.size() || id < 0) {
                throw FileError(config_.path, "added_tokens_decoder has the id " + in_quotes(number));
            }
            const JsonObject object(token, config_.path, name + ".");
            const bool special = object.flag("special").value_or(false);
            config_.added.push_back({object.required("content", object.text("content")), id, special,
                                     object.flag("normalized").value_or(!special),
                                     object.flag("lstrip").value_or(false), object.flag("rstrip").value_or(false),
                                     object.flag("single_word").value_or(false)});
        }
    }

    void read_older_added(const json& tokens, const std::string& path) {
        for (const auto& [text, id] : tokens.items()) {
            if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<Token>::max()) {
                throw FileError(path, in_quotes(text) + " has an id that is no number, or too large");
            }
            const bool special = special_.contains(text);
            config_.added.push_back({text, id.get<Token>(), special, !special});
        }
    }

    const std::string& tokenizer_;
    TokenizerConfig config_;
    std::set<std::string> special_;  // the texts of control tokens
};

}  // namespace

TokenizerConfig read_tokenizer_config(const std::string& tokenizer) { return Reader(tokenizer).read(); }

}  // namespace llama
