// SPDX-License-Identifier: MIT
#include "freqkv/policy/binary_tiers.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_tiers_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::TieredLowPass<>(static_cast<Index>(parts.settings.parameter("tiers"))), parts);
}

}  // namespace llama
