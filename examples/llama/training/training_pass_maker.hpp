// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>

#include "llama/model/cache_settings.hpp"
#include "llama/training/trainable_llama.hpp"

namespace llama {

class TrainingPass;

/// What makes passes under the policy of the settings, which may be one for training only. The model must outlive it.
/// `recompute` as in TrainingPass.
std::function<std::unique_ptr<TrainingPass>()> training_pass_maker(const TrainableLlama& model,
                                                                   const CacheSettings& settings, Index length,
                                                                   bool recompute = false);

}  // namespace llama
