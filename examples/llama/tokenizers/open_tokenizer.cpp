// SPDX-License-Identifier: MIT
#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/tokenizers/gguf_tokenizer.hpp"
#include "llama/tokenizers/llama2c_tokenizer.hpp"
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"
#include "llama/tokenizers/tokenizer.hpp"
#include "llama/tokenizers/tokenizer_json.hpp"

namespace llama {

namespace {

namespace fs = std::filesystem;

bool is_directory(const std::string& path) {
    std::error_code error;
    return fs::is_directory(path, error);
}

// The first of `names` that exists in `directory`; FileError about `path` if none does.
std::string find_file(const fs::path& directory, std::initializer_list<std::string> names, const std::string& path) {
    std::string tried;
    for (const std::string& name : names) {
        std::error_code error;
        if (fs::exists(directory / name, error)) return (directory / name).string();
        tried += (tried.empty() ? "" : ", ") + name;
    }
    throw FileError(path, "no tokenizer there (looked for " + tried + "); give --tokenizer");
}

std::string find_llama2c_tokenizer(const Checkpoint& checkpoint) {
    const fs::path model(checkpoint.path);
    return find_file(model.parent_path(),
                     {model.stem().string() + ".tokenizer.bin",
                      "tok" + std::to_string(checkpoint.config.vocabulary) + ".bin", "tokenizer.bin"},
                     checkpoint.path);
}

std::unique_ptr<Tokenizer> open_gguf(const std::string& path) {
    return make_gguf_tokenizer(read_gguf_vocabulary(path), path);
}

std::unique_ptr<Tokenizer> open_llama2c(const std::string& path, const Checkpoint& checkpoint) {
    return std::make_unique<Llama2cTokenizer>(path, checkpoint.config.vocabulary);
}

// A list of tokens in base 64 and their ranks, which LLaMA-3 came with under the name of SentencePiece's models.
bool is_tiktoken(const std::string& path) {
    const MappedFile file(path);
    const std::string_view content(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    const std::string_view line = content.substr(0, std::min<std::size_t>(content.find('\n'), 256));
    const std::size_t space = line.find(' ');
    constexpr std::string_view base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    return space != std::string_view::npos && space >= 4 && space + 1 < line.size() &&
           line.substr(0, space).find_first_not_of(base64) == std::string_view::npos &&
           line.substr(space + 1).find_first_not_of("0123456789\r") == std::string_view::npos;
}

// Null if the name is not one of a tokenizer that is complete by itself.
std::unique_ptr<Tokenizer> open_complete(const std::string& path) {
    const std::string extension = fs::path(path).extension().string();
    if (extension == ".model") {
        if (is_tiktoken(path)) {
            throw FileError(path,
                            "a list of tiktoken's, which is not supported; give --tokenizer with the tokenizer.json");
        }
        return std::make_unique<SentencePieceTokenizer>(path);
    }
    if (extension == ".json") return read_tokenizer_json(path);
    if (extension == ".gguf") return open_gguf(path);
    return nullptr;
}

std::unique_ptr<Tokenizer> open_file(const std::string& path, const Checkpoint& checkpoint) {
    std::unique_ptr<Tokenizer> tokenizer = open_complete(path);
    return tokenizer != nullptr ? std::move(tokenizer) : open_llama2c(path, checkpoint);
}

// As transformers chooses: tokenizer.json says more. Where that is of a kind that is not supported, tokenizer.model may
// be.
std::unique_ptr<Tokenizer> open_in_model(const std::string& path) {
    const std::string found = find_file(path, {"tokenizer.json", "tokenizer.model"}, path);
    const std::string other = (fs::path(path) / "tokenizer.model").string();
    try {
        return open_complete(found);
    } catch (const UnsupportedTokenizer&) {
        if (found == other || !file_exists(other) || is_tiktoken(other)) throw;
    }
    return open_complete(other);
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& given, const Checkpoint& checkpoint) {
    const std::string& path = given.empty() ? checkpoint.path : given;
    if (is_directory(path)) return open_in_model(path);
    if (!given.empty()) return open_file(given, checkpoint);
    if (is_gguf(path)) return open_gguf(path);
    return open_llama2c(find_llama2c_tokenizer(checkpoint), checkpoint);
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
    std::unique_ptr<Tokenizer> tokenizer = is_directory(path) ? open_in_model(path) : open_complete(path);
    if (tokenizer == nullptr) {
        throw FileError(path, "no .model, .json or .gguf file; a llama2.c tokenizer needs --model");
    }
    return tokenizer;
}

}  // namespace llama
