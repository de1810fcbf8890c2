// SPDX-License-Identifier: MIT
#include "freqkv/policy/key_diff.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_key_diff_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::KeyDiff(parts.settings.ratio), parts);
}

}  // namespace llama
