// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "freqkv/policy/report.hpp"
#include "llama/model/arithmetic.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"

namespace llama {

/// What a model on the processor is made from; the checkpoint must outlive the model. `threads` 0: all.
struct HostModelParts {
    const Checkpoint& checkpoint;
    const CacheSettings& settings;
    int threads = 0;
    Arithmetic arithmetic = Arithmetic::exact;
    freqkv::Observer observer{};  ///< of compressions
};

// The models under one policy with caches of any type, in program/model_*.cpp.
std::unique_ptr<LanguageModel> make_low_pass_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_local_window_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_snap_kv_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_tova_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_heavy_hitters_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_key_diff_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_key_norm_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_value_norm_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_block_mean_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_merge_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_snap_kv_and_low_pass_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_heavy_hitters_and_low_pass_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_residual_and_low_pass_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_tiers_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_equal_weight_model(const HostModelParts& parts);
std::unique_ptr<LanguageModel> make_full_model(const HostModelParts& parts);

/// A Llama on the processor. Throws freqkv::Error if the sizes and the policy do not go together, std::invalid_argument
/// for a policy that is for training only.
inline std::unique_ptr<LanguageModel> make_host_model(const Checkpoint& checkpoint, const CacheSettings& settings,
                                                      int threads, Arithmetic arithmetic = Arithmetic::exact,
                                                      const freqkv::Observer& observer = {}) {
    const HostModelParts parts{checkpoint, settings, threads, arithmetic, observer};
    switch (settings.policy) {
        case PolicyName::low_pass:
            return make_low_pass_model(parts);
        case PolicyName::local_window:
            return make_local_window_model(parts);
        case PolicyName::snap_kv:
            return make_snap_kv_model(parts);
        case PolicyName::tova:
            return make_tova_model(parts);
        case PolicyName::heavy_hitters:
            return make_heavy_hitters_model(parts);
        case PolicyName::key_diff:
            return make_key_diff_model(parts);
        case PolicyName::key_norm:
            return make_key_norm_model(parts);
        case PolicyName::value_norm:
            return make_value_norm_model(parts);
        case PolicyName::block_mean:
            return make_block_mean_model(parts);
        case PolicyName::merge:
            return make_merge_model(parts);
        case PolicyName::snap_kv_and_low_pass:
            return make_snap_kv_and_low_pass_model(parts);
        case PolicyName::heavy_hitters_and_low_pass:
            return make_heavy_hitters_and_low_pass_model(parts);
        case PolicyName::residual_and_low_pass:
            return make_residual_and_low_pass_model(parts);
        case PolicyName::tiers:
            return make_tiers_model(parts);
        case PolicyName::equal_weight:
            return make_equal_weight_model(parts);
        case PolicyName::full:
            return make_full_model(parts);
        case PolicyName::low_pass_unscaled:
            break;
    }
    throw std::invalid_argument(std::string("the policy ") + to_string(settings.policy) + " is for training only");
}

}  // namespace llama
