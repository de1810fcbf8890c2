// SPDX-License-Identifier: MIT
#include "llama/checkpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>

#include "llama/gguf_checkpoint.hpp"
#include "llama/hugging_face.hpp"
#include "llama/llama2c_checkpoint.hpp"

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
    const MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0 ? Format::gguf : Format::llama2c;
}

}  // namespace

Weights Checkpoint::aligned(Weights matrix) {
    const WeightFormat layout = format_of(matrix.type);
    const auto element = static_cast<std::uintptr_t>(layout.bytes);
    if (layout.block > 1 || reinterpret_cast<std::uintptr_t>(matrix.data) % element == 0) return matrix;
    std::byte* const copy = allocate(matrix.bytes());
    if (matrix.bytes() > 0) std::memcpy(copy, matrix.data, static_cast<std::size_t>(matrix.bytes()));
    matrix.data = copy;
    return matrix;
}

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
