// SPDX-License-Identifier: MIT
#include "freqkv/policy/merge.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_merge_model(const HostModelParts& parts) {
    const CacheSettings& settings = parts.settings;
    return make_host_llama(freqkv::Merge(settings.ratio, static_cast<Index>(settings.parameter("reach"))), parts);
}

}  // namespace llama
