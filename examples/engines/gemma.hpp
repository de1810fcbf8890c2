// SPDX-License-Identifier: MIT
#pragma once

// For programs that use gemma.cpp (commit 3ed403e): its KVCache belongs to the caller, who compresses it between calls
// of Generate(), and then goes on at the position that is left. Compiled against its headers, not run: its models are
// not among those that can be had without an account.
#include <algorithm>
#include <cstddef>

#include "freqkv/error.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "gemma/configs.h"
#include "gemma/kv_cache.h"

namespace freqkv::gemma {

/// Compresses all layers of a model's cache. Layers with a window of their own go on seeing it whole, because the
/// latest entries of all layers stay as they are, as many as the widest of these windows has.
class Compressor {
public:
    explicit Compressor(const gcpp::ModelConfig& config, LowPass<> policy = LowPass<>(0.5))
        : config_(config),
          local_(policy, rope(config, 10000)),
          global_(policy, rope(config, gcpp::IsVLM(config.model) ? 1000000 : 10000)) {
        for (std::size_t l = 0; l < config.num_layers; ++l) {
            if (!config.IsGlobalLayer(l)) recent_ = std::max<Index>(recent_, config.attention_window_sizes[l]);
            require(config.layer_configs[l].post_qk == gcpp::PostQKType::Rope, "rotation of layer",
                    static_cast<Index>(l), "must be of all dimensions");
        }
    }

    /// The first `pos` rows become fewer; returns how many, which is the position of the next token. To be called when
    /// the prompt and the tokens to generate would go beyond cache.SeqLen().
    std::size_t compress(gcpp::KVCache& cache, std::size_t pos) {
        const auto stride = static_cast<Index>(cache.kv_cache.Stride());
        Index left = 0, first = 0;
        for (std::size_t l = 0; l < config_.num_layers; ++l) {
            const gcpp::LayerConfig& layer = config_.layer_configs[l];
            const auto dim = static_cast<Index>(layer.qkv_dim), heads = static_cast<Index>(layer.kv_heads);
            const auto rows = [&](Index offset) {  // [position][layer][head][key, value][dim]
                return KVView<gcpp::KV_t>(cache.kv_cache.Row(0) + first + offset, heads, static_cast<Index>(pos), dim,
                                          2 * dim, stride, 1);
            };
            left = (config_.IsGlobalLayer(l) ? global_ : local_)
                       .compress(rows(0), rows(dim),
                                 {.recent = recent_, .compressions = compressions_, .layer = static_cast<Index>(l)});
            first += static_cast<Index>(layer.CacheLayerSize());
        }
        ++compressions_;
        return static_cast<std::size_t>(left);
    }

private:
    static Rope<float> rope(const gcpp::ModelConfig& config, double base) {
        return Rope<float>({.head_dim = static_cast<Index>(config.layer_configs.at(0).qkv_dim),
                            .base = base,
                            .pairing = RopePairing::half_split},
                           static_cast<Index>(std::min<std::size_t>(config.max_seq_len, 8192)));
    }

    const gcpp::ModelConfig& config_;
    InPlaceCompressor<gcpp::KV_t, LowPass<>> local_, global_;
    Index recent_ = 0;
    Index compressions_ = 0;
};

}  // namespace freqkv::gemma
