// SPDX-License-Identifier: MIT
#include "llama/cuda/device_weights.cuh"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "llama/cuda/weight_types.hpp"

namespace llama::device {

namespace {

using freqkv::cuda::DeviceArray;

// Host memory for rows that are converted on their way.
constexpr Index staging_bytes = Index{1} << 24;

DeviceArray<float> floats(const float* from, Index count) {
    return DeviceArray<float>(std::span<const float>(from, static_cast<std::size_t>(count)));
}

DeviceArray<float> qkv_bias(const LayerWeights& layer) {
    std::vector<float> bias;
    const auto append = [&](const float* part, Index count) {
        part == nullptr ? bias.resize(bias.size() + static_cast<std::size_t>(count))
                        : static_cast<void>(bias.insert(bias.end(), part, part + count));
    };
    if (layer.q_bias == nullptr && layer.k_bias == nullptr && layer.v_bias == nullptr) return {};
    append(layer.q_bias, layer.wq.rows);
    append(layer.k_bias, layer.wk.rows);
    append(layer.v_bias, layer.wv.rows);
    return DeviceArray<float>(bias);
}

DeviceLayer upload(const LayerWeights& layer) {
    const Index dim = layer.wq.columns;
    DeviceLayer result;
    result.attention_norm = floats(layer.attention_norm, dim);
    result.qkv = Matrix({&layer.wq, &layer.wk, &layer.wv});
    result.qkv_bias = qkv_bias(layer);
    result.wo = Matrix({&layer.wo});
    result.ffn_norm = floats(layer.ffn_norm, dim);
    result.gate_up = Matrix({&layer.gate, &layer.up});
    result.down = Matrix({&layer.down});
    return result;
}

}  // namespace

Matrix::Matrix(std::initializer_list<const Weights*> parts)
    : type(device_type(parts)), columns((*parts.begin())->columns) {
    for (const Weights* const part : parts) rows += part->rows;
    const Index row_bytes = columns * format_of(type).bytes;
    data = DeviceArray<std::byte>(freqkv::checked_product("bytes of a weight matrix", rows, row_bytes));
    const Index rows_at_once = std::max<Index>(1, staging_bytes / row_bytes);
    std::vector<std::byte> staging;
    std::byte* to = data.data();
    // From pageable memory: read when it returns.
    const auto copy = [&](const std::byte* from, Index count) {
        const auto bytes = static_cast<std::size_t>(count * row_bytes);
        freqkv::cuda::check("cudaMemcpy", cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
        to += bytes;
    };
    for (const Weights* const part : parts) {
        if (part->type == type) {
            copy(part->data, part->rows);
            continue;
        }
        staging.resize(static_cast<std::size_t>(rows_at_once * row_bytes));
        for (Index first = 0; first < part->rows; first += rows_at_once) {
            const Index count = std::min(rows_at_once, part->rows - first);
            convert_rows(*part, first, count, type, staging.data());
            copy(staging.data(), count);
        }
    }
}

DeviceWeights::DeviceWeights(const Checkpoint& checkpoint)
    : embedding({&checkpoint.embedding}), final_norm(floats(checkpoint.final_norm, checkpoint.config.dim)) {
    if (checkpoint.classifier.data != checkpoint.embedding.data) classifier = Matrix({&checkpoint.classifier});
    layers.reserve(checkpoint.layers.size());
    for (const LayerWeights& layer : checkpoint.layers) layers.push_back(upload(layer));
    freqkv::cuda::check("cudaDeviceSynchronize", cudaDeviceSynchronize());
}

}  // namespace llama::device
