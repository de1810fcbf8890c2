// SPDX-License-Identifier: MIT
#include "freqkv/policy/residual_energy.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_residual_and_low_pass_model(const HostModelParts& parts) {
    return make_host_llama(
        freqkv::ExactAndLowPass(parts.settings.ratio, parts.settings.parameter("share"), freqkv::ResidualEnergy()),
        parts);
}

}  // namespace llama
