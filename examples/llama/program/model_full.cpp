// SPDX-License-Identifier: MIT
#include "freqkv/policy/full.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_full_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::Full{}, parts);
}

}  // namespace llama
