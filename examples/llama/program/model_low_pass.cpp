// SPDX-License-Identifier: MIT
#include "freqkv/policy/low_pass.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_low_pass_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::LowPass<>(parts.settings.ratio), parts);
}

}  // namespace llama
