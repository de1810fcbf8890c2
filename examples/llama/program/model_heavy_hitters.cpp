// SPDX-License-Identifier: MIT
#include "freqkv/policy/heavy_hitters.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_heavy_hitters_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::HeavyHitters(parts.settings.ratio, parts.settings.parameter("decay"),
                                                parts.settings.parameter("mean") == 1),
                           parts);
}

}  // namespace llama
