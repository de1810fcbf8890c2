// SPDX-License-Identifier: MIT
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/keep_some.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_heavy_hitters_and_low_pass_model(const HostModelParts& parts) {
    const freqkv::AccumulatedAttention score{parts.settings.parameter("decay"), parts.settings.parameter("mean") == 1};
    return make_host_llama(freqkv::ExactAndLowPass(parts.settings.ratio, parts.settings.parameter("share"), score),
                           parts);
}

}  // namespace llama
