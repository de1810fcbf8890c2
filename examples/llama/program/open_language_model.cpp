// SPDX-License-Identifier: MIT
#include "llama/program/open_language_model.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "llama/cuda/device_llama.hpp"
#include "llama/cuda/weight_types.hpp"
#include "llama/model/features.hpp"
#include "llama/program/budgets.hpp"
#include "llama/program/host_models.hpp"

namespace llama {

namespace {

// What runs models on a GPU: a file beside the program, which it loads when it is needed first, for it takes cuBLAS
// some time to be loaded. Throws std::runtime_error if the program was built without it or it cannot be loaded.
const DeviceModule& device_module() {
#if defined(FREQKV_LLAMA_MODULE)
    static const auto* const module = [] {
        const std::string path =
            (std::filesystem::read_symlink("/proc/self/exe").parent_path() / FREQKV_LLAMA_MODULE).string();
        void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) throw std::runtime_error(std::string("--device cuda: ") + ::dlerror());
        const void* const found = ::dlsym(library, "freqkv_llama_device_module");
        if (found == nullptr) throw std::runtime_error(std::string("--device cuda: ") + ::dlerror());
        return static_cast<const DeviceModule*>(found);
    }();
    return *module;
#else
    throw std::runtime_error(
        "--device cuda: this program was built without CUDA; CMake builds it in by -DFREQKV_WITH_CUDA=ON");
#endif
}

CacheType cache_type_of(WeightType weights) {
    switch (weights) {
        case WeightType::f16:
            return CacheType::f16;
        case WeightType::bf16:
            return CacheType::bf16;
        case WeightType::f32:
            return CacheType::f32;
        default:
            break;  // quantised: a GPU has none of them
    }
    throw std::invalid_argument("a cache cannot store quantised numbers");
}

}  // namespace

void check_device(const ModelOptions& options) {
    if (options.device == "cuda") device_module().check_device();
}

CacheSettings resolve(const ModelOptions& options, const Checkpoint& checkpoint, Index expected_tokens) {
    check_budgets(options, checkpoint);
    if (options.device == "cpu") return resolve(options, checkpoint.config, expected_tokens);
    ModelOptions on_device = options;
    if (!options.cache_type) on_device.cache_type = cache_type_of(device_type(checkpoint));
    CacheSettings settings = resolve(on_device, checkpoint.config, expected_tokens);
    if (settings.grows()) settings.sizes.capacity = std::max<Index>(expected_tokens, 1);
    if (settings.sizes.text_positions) throw UsageError("--device cuda: --positions text is for the processor");
    if (traits_of(settings.type).packed()) {
        throw UsageError(std::string("--device cuda: --cache-type ") + to_string(settings.type) +
                         " is for the processor");
    }
    if (!settings.sizes.head_capacities.empty()) {
        throw UsageError(
            "--device cuda: all layers and heads have one capacity there; --budget-by pyramid and "
            "--budgets are for the processor");
    }
    return settings;
}

std::unique_ptr<LanguageModel> open_language_model(const Checkpoint& checkpoint, const CacheSettings& settings,
                                                   const ModelOptions& options) {
    if (options.device == "cpu") {
        check_capacity(checkpoint.config, settings);
        const Arithmetic arithmetic = options.exact ? Arithmetic::exact : Arithmetic::rounded;
        return make_host_model(checkpoint, settings, options.threads, arithmetic);
    }
    using enum Feature;
    require_supported(checkpoint.config, checkpoint.path, "--device cuda", {joined_projections, partial_rotation});
    warn_of_capacity(checkpoint.config, settings);
    // Longer chunks make room for themselves.
    return device_module().open(checkpoint, {settings, std::min(options.prefill_chunk, Index{4096})});
}

}  // namespace llama
