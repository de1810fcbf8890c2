// SPDX-License-Identifier: MIT
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/window_attention.hpp"

#include "llama/model/rope_scaling.hpp"
#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_snap_kv_and_low_pass_model(const HostModelParts& parts) {
    freqkv::WindowAttention<32> score{static_cast<Index>(parts.settings.parameter("pool"))};
    score.latest = static_cast<Index>(parts.settings.parameter("window"));
    score.scale = score_scale(parts.checkpoint.config);
    return make_host_llama(freqkv::ExactAndLowPass(parts.settings.ratio, parts.settings.parameter("share"), score),
                           parts);
}

}  // namespace llama
