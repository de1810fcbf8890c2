// SPDX-License-Identifier: MIT
#include "freqkv/policy/window_attention.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_tova_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::Tova(parts.settings.ratio), parts);
}

}  // namespace llama
