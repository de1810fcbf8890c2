// SPDX-License-Identifier: MIT
#include "llama/formats/open_checkpoint.hpp"

#include <filesystem>
#include <string>
#include <system_error>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/formats/hugging_face.hpp"
#include "llama/formats/llama2c_checkpoint.hpp"

namespace llama {

namespace {

enum class Format { hugging_face, gguf, llama2c };

Format format_of_path(const std::string& path) {
    const std::filesystem::path name(path);
    std::error_code error;
    if (std::filesystem::is_directory(name, error)) return Format::hugging_face;
    if (name.extension() == ".safetensors") {
        throw FileError(path, "weights alone; give the directory, with config.json in it");
    }
    return is_gguf(path) ? Format::gguf : Format::llama2c;
}

}  // namespace

Checkpoint open_checkpoint(const std::string& path) {
    switch (format_of_path(path)) {
        case Format::hugging_face:
            return read_hugging_face(path);
        case Format::gguf:
            return read_gguf(path);
        case Format::llama2c:
            break;
    }
    return read_llama2c(path);
}

Config read_config(const std::string& path) {
    if (std::filesystem::path(path).extension() == ".json") return read_hugging_face_config(path);
    switch (format_of_path(path)) {
        case Format::hugging_face:
            return read_hugging_face_config(path);
        case Format::gguf:
            return read_gguf_config(path);
        case Format::llama2c:
            break;
    }
    return read_llama2c(path).config;
}

}  // namespace llama
