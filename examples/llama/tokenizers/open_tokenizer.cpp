// SPDX-License-Identifier: MIT
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
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

// Null if the name is not one of a tokenizer that is complete by itself.
std::unique_ptr<Tokenizer> open_complete(const std::string& path) {
    const std::string extension = fs::path(path).extension().string();
    if (extension == ".model") return std::make_unique<SentencePieceTokenizer>(path);
    if (extension == ".json") return read_tokenizer_json(path);
    if (extension == ".gguf") return open_gguf(path);
    return nullptr;
}

std::unique_ptr<Tokenizer> open_file(const std::string& path, const Checkpoint& checkpoint) {
    std::unique_ptr<Tokenizer> tokenizer = open_complete(path);
    return tokenizer != nullptr ? std::move(tokenizer) : open_llama2c(path, checkpoint);
}

std::string find_in_model(const std::string& path) {
    return find_file(path, {"tokenizer.model", "tokenizer.json"}, path);
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& given, const Checkpoint& checkpoint) {
    const std::string& path = given.empty() ? checkpoint.path : given;
    if (is_directory(path)) return open_file(find_in_model(path), checkpoint);
    if (!given.empty()) return open_file(given, checkpoint);
    if (is_gguf(path)) return open_gguf(path);
    return open_llama2c(find_llama2c_tokenizer(checkpoint), checkpoint);
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
    std::unique_ptr<Tokenizer> tokenizer = open_complete(is_directory(path) ? find_in_model(path) : path);
    if (tokenizer == nullptr) {
        throw FileError(path, "no .model, .json or .gguf file; a llama2.c tokenizer needs --model");
    }
    return tokenizer;
}

}  // namespace llama
