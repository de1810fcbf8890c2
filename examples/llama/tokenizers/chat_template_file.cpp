// SPDX-License-Identifier: MIT
#include "llama/tokenizers/chat_template_file.hpp"

#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/formats/gguf_file.hpp"
#include "llama/io/file.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/usage_error.hpp"

namespace llama {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Of what reads it each byte is looked at some times.
constexpr std::size_t most_bytes = std::size_t{1} << 20;

void check_size(std::size_t bytes, const std::string& path) {
    if (bytes > most_bytes) {
        throw FileError(path, "a chat template of " + std::to_string(bytes) + " bytes; at most " +
                                  std::to_string(most_bytes) + " are read");
    }
}

// "chat_template": a text, or several of them with names, of which one is the default.
std::optional<std::string> find_template(const std::string& path) {
    const json file = read_json(path);
    const auto found = file.is_object() ? file.find("chat_template") : file.end();
    if (found == file.end() || found->is_null()) return std::nullopt;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_array()) {
        for (const json& entry : *found) {
            if (!entry.is_object() || entry.value("name", json()) != "default") continue;
            const auto text = entry.find("template");
            if (text != entry.end() && text->is_string()) return text->get<std::string>();
        }
    }
    throw FileError(path, "chat_template is no text and no list with one of the name default");
}

std::optional<std::string> read_from_directory(const fs::path& directory) {
    std::error_code error;
    const std::string jinja = directory / "chat_template.jinja";
    if (fs::exists(jinja, error)) {
        check_size(static_cast<std::size_t>(fs::file_size(jinja, error)), jinja);
        const std::vector<char> text = read_file(jinja);
        return std::string(text.begin(), text.end());
    }
    for (const char* const name : {"tokenizer_config.json", "chat_template.json"}) {
        const std::string path = directory / name;
        if (!fs::exists(path, error)) continue;
        if (auto text = find_template(path)) {
            check_size(text->size(), path);
            return text;
        }
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::string> read_chat_template(const std::string& model) {
    std::error_code error;
    if (fs::is_directory(model, error)) return read_from_directory(model);
    if (!is_gguf(model)) return std::nullopt;
    const GgufFile file(model);
    const auto text = file.find_string("tokenizer.chat_template");
    if (text) check_size(text->size(), model);
    return text ? std::optional<std::string>(*text) : std::nullopt;
}

ChatTemplate open_chat_template(const std::string& name, const std::string& model) {
    if (!name.empty()) {
        try {
            return ChatTemplate::named(name);
        } catch (const std::invalid_argument& error) {
            throw UsageError(std::string("--template: ") + error.what());
        }
    }
    const std::optional<std::string> text = read_chat_template(model);
    if (!text) {
        throw FileError(
            model, "no chat template there, so it may be no chat model; --template takes " + ChatTemplate::names());
    }
    try {
        return ChatTemplate::recognize(*text);
    } catch (const std::invalid_argument& error) {
        throw FileError(model, std::string(error.what()) + "; --template chooses one of them");
    }
}

}  // namespace llama
