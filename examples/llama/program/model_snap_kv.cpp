// SPDX-License-Identifier: MIT
#include "freqkv/policy/window_attention.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_snap_kv_model(const HostModelParts& parts) {
    return make_host_llama(freqkv::SnapKV<>(parts.settings.ratio), parts);
}

}  // namespace llama
