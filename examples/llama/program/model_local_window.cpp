// SPDX-License-Identifier: MIT
#include "freqkv/policy/local_window.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_local_window_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::LocalWindow(parts.settings.ratio), parts);
}

}  // namespace llama
