// SPDX-License-Identifier: MIT
#include "freqkv/policy/norms.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_value_norm_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::ValueNorm(parts.settings.ratio), parts);
}

}  // namespace llama
