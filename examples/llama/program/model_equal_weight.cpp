// SPDX-License-Identifier: MIT
#include "freqkv/policy/equal_weight.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_equal_weight_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::EqualWeightLowPass<>(parts.settings.ratio), parts);
}

}  // namespace llama
