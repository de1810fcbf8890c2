// SPDX-License-Identifier: MIT
#include "freqkv/policy/norms.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_key_norm_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::KeyNorm(parts.settings.ratio), parts);
}

}  // namespace llama
