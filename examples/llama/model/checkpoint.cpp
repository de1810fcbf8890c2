// SPDX-License-Identifier: MIT
#include "llama/model/checkpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace llama {

void LayerWeights::split_joined(const Config& config) {
    if (qkv.data != nullptr) {
        wq = qkv.middle_rows(0, config.query_dim());
        wk = qkv.middle_rows(config.query_dim(), config.kv_dim());
        wv = qkv.middle_rows(config.query_dim() + config.kv_dim(), config.kv_dim());
    }
    if (gate_up.data != nullptr) {
        gate = gate_up.middle_rows(0, config.hidden);
        up = gate_up.middle_rows(config.hidden, config.hidden);
    }
}

Weights Checkpoint::aligned(Weights matrix) {
    const WeightFormat layout = format_of(matrix.type);
    const auto element = static_cast<std::uintptr_t>(layout.bytes);
    if (layout.block > 1 || reinterpret_cast<std::uintptr_t>(matrix.data) % element == 0) return matrix;
    std::byte* const copy = allocate(matrix.bytes());
    if (matrix.bytes() > 0) std::memcpy(copy, matrix.data, static_cast<std::size_t>(matrix.bytes()));
    matrix.data = copy;
    return matrix;
}

}  // namespace llama
