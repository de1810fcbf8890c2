// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <stdexcept>

#include "llama/model/arithmetic.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"

namespace llama {

// The models with caches of one type, each in model_<type>.cpp.
std::unique_ptr<LanguageModel> make_model_f32(const Checkpoint&, const CacheSettings&, int threads, Arithmetic);
std::unique_ptr<LanguageModel> make_model_f16(const Checkpoint&, const CacheSettings&, int threads, Arithmetic);
std::unique_ptr<LanguageModel> make_model_bf16(const Checkpoint&, const CacheSettings&, int threads, Arithmetic);

/// A Llama on the processor, on `threads` threads (0: all). The checkpoint must outlive it. Throws freqkv::Error if the
/// sizes and the policy do not go together.
inline std::unique_ptr<LanguageModel> make_host_model(const Checkpoint& checkpoint, const CacheSettings& settings,
                                                      int threads, Arithmetic arithmetic = Arithmetic::exact) {
    switch (settings.type) {
        case CacheType::f32:
            return make_model_f32(checkpoint, settings, threads, arithmetic);
        case CacheType::f16:
            return make_model_f16(checkpoint, settings, threads, arithmetic);
        case CacheType::bf16:
            return make_model_bf16(checkpoint, settings, threads, arithmetic);
    }
    throw std::invalid_argument("no such type of a cache");
}

}  // namespace llama
