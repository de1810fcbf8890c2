// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "edited_file.hpp"
#include "llama/formats/adapter_config.hpp"

// Any adapter_config.json is refused, or says of every module how large its matrices are and how much they count; and
// no pattern keeps it long.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid = R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "modules_to_save": ["lm_head"],
        "rank_pattern": {"q_proj": 2, "layers\\.\\d+\\.(?:mlp|self_attn)\\..*_proj": 4, "^model.layers.[01].*": 6},
        "alpha_pattern": {"(k|v)_proj$": 32, ".*(?<!o)_proj": 1}, "bias": "none",
        "trainable_token_indices": {"embed_tokens": [1, 2, 70]}})";
    if (size == 0) return 0;
    const fuzz::MemoryFile file(data[0] % 4 == 0 ? std::string(reinterpret_cast<const char*>(data + 1), size - 1)
                                                 : fuzz::edited(valid, data + 1, size - 1));
    try {
        const llama::AdapterConfig config(file.path());
        for (const char* const module : {"model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "lm_head"}) {
            if (config.rank(module) < 1) std::abort();
            static_cast<void>(config.scale(module));
            static_cast<void>(config.saves(module));
            const auto* const tokens = config.tokens_of(module);
            if (tokens == nullptr) continue;
            for (const llama::Index token : *tokens) {
                if (token < 0) std::abort();
            }
        }
    } catch (const llama::FileError&) {
    }
    return 0;
}
