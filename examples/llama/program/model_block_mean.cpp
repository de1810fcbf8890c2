// SPDX-License-Identifier: MIT
#include "freqkv/policy/block_mean.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_block_mean_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::BlockMean(parts.settings.ratio), parts);
}

}  // namespace llama
