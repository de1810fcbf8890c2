// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"
#include "llama/program/options.hpp"

// For the commands that have --device.
namespace llama {

/// Throws std::runtime_error unless there is the device that the options name.
void check_device(const ModelOptions& options);

/// resolve() for the device that the options name: on a GPU no cache grows, and the weights say how it stores.
CacheSettings resolve(const ModelOptions& options, const Checkpoint& checkpoint, Index expected_tokens);

/// The model of these settings on the device that the options name. The checkpoint must outlive it. Throws
/// std::runtime_error for what the device has no memory for.
std::unique_ptr<LanguageModel> open_language_model(const Checkpoint& checkpoint, const CacheSettings& settings,
                                                   const ModelOptions& options);

}  // namespace llama
