// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include "llama/model/checkpoint.hpp"
#include "llama/model/dequantize.hpp"

// Reads every weight.
namespace fuzz {

inline double sum(const llama::Weights& weights) {
    double total = 0;
    std::vector<float> row(static_cast<std::size_t>(weights.columns));
    for (llama::Index r = 0; r < weights.rows; ++r) {
        llama::dequantize(weights, r, 0, weights.columns, row.data());
        for (const float value : row) total += value;
    }
    return total;
}

inline double sum(const float* values, llama::Index count) {
    return values == nullptr ? 0 : sum(llama::weights(values, 1, count));
}

inline double sum(const llama::Checkpoint& checkpoint) {
    const llama::Config& c = checkpoint.config;
    double total = sum(checkpoint.embedding) + sum(checkpoint.classifier) + sum(checkpoint.final_norm, c.dim);
    for (const llama::LayerWeights& layer : checkpoint.layers) {
        for (const llama::Weights& w : {layer.wq, layer.wk, layer.wv, layer.wo, layer.gate, layer.down, layer.up}) {
            total += sum(w);
        }
        total += sum(layer.attention_norm, c.dim) + sum(layer.ffn_norm, c.dim);
        total += sum(layer.q_bias, c.query_dim()) + sum(layer.k_bias, c.kv_dim()) + sum(layer.v_bias, c.kv_dim());
    }
    return total;
}

}  // namespace fuzz
