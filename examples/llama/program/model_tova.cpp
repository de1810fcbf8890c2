// SPDX-License-Identifier: MIT
#include "freqkv/policy/window_attention.hpp"

#include "llama/model/rope_scaling.hpp"
#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_tova_model(const HostModelParts& parts) {
    freqkv::Tova policy(parts.settings.ratio);
    policy.codec.score.scale = score_scale(parts.checkpoint.config);
    return make_host_llama(policy, parts);
}

}  // namespace llama
