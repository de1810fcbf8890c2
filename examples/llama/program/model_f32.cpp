// SPDX-License-Identifier: MIT
#include "llama/program/host_llama.hpp"
#include "llama/program/host_models.hpp"

namespace llama {

std::unique_ptr<LanguageModel> make_model_f32(const Checkpoint& checkpoint, const CacheSettings& settings, int threads,
                                              Arithmetic arithmetic) {
    return make_host_llama<float>(checkpoint, settings, threads, arithmetic);
}

}  // namespace llama
