// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"

// A Llama on a GPU, to code that no CUDA compiler reads.
namespace llama {

/// How a Llama on a GPU keeps its text. Under "full" the capacity is the whole text, for the cache cannot grow.
struct DeviceSettings : CacheSettings {
    Index chunk = 1;  ///< tokens that are likely to be fed at once
};

/// Throws std::runtime_error if there is no GPU.
void check_device();

/// Takes the weights to the current GPU; the checkpoint is needed no longer then. Throws std::runtime_error where its
/// memory is too small, for quantised weights that f16 cannot hold, and for policies that there are none for on a GPU.
std::unique_ptr<LanguageModel> open_device_llama(const Checkpoint& checkpoint, const DeviceSettings& settings);

/// What the program finds in the module that it loads for --device cuda.
struct DeviceModule {
    void (*check_device)();
    std::unique_ptr<LanguageModel> (*open)(const Checkpoint& checkpoint, const DeviceSettings& settings);
};

}  // namespace llama
