// SPDX-License-Identifier: MIT
#include "llama/program/host_llama.hpp"
#include "llama/program/host_models.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_model_bf16(const Checkpoint& checkpoint, const CacheSettings& settings, int threads,
                                               Arithmetic arithmetic) {
    return make_host_llama<Eigen::bfloat16>(checkpoint, settings, threads, arithmetic);
}

}  // namespace llama
