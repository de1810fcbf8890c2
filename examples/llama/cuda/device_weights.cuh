// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <initializer_list>
#include <vector>

#include "freqkv/cuda/device_array.cuh"
#include "llama/model/checkpoint.hpp"
#include "llama/model/weights.hpp"

namespace llama::device {

/// A weight matrix [rows, columns], row-major, in device memory; f32, f16 or bf16.
struct Matrix {
    WeightType type = WeightType::f32;
    Index rows = 0;
    Index columns = 0;
    freqkv::cuda::DeviceArray<std::byte> data;

    Matrix() = default;
    /// Matrices of as many columns below each other. Throws what device_type() and the device's memory do.
    explicit Matrix(std::initializer_list<const Weights*> parts);
};

/// The weights of one transformer block, those that have the same input in one matrix.
struct DeviceLayer {
    freqkv::cuda::DeviceArray<float> attention_norm;  ///< [dim]
    Matrix qkv;                                       ///< [(heads + 2 kv_heads) * head_dim, dim]
    freqkv::cuda::DeviceArray<float> qkv_bias;        ///< [(heads + 2 kv_heads) * head_dim]; empty: none
    Matrix wo;                                        ///< [dim, heads * head_dim]
    freqkv::cuda::DeviceArray<float> ffn_norm;        ///< [dim]
    Matrix gate_up;                                   ///< [2 * hidden, dim]
    Matrix down;                                      ///< [dim, hidden]
};

/// All weights of a checkpoint on the current device.
struct DeviceWeights {
    Matrix embedding;                             ///< [vocabulary, dim]
    Matrix classifier;                            ///< [vocabulary, dim]; empty where the embedding is shared
    freqkv::cuda::DeviceArray<float> final_norm;  ///< [dim]
    std::vector<DeviceLayer> layers;

    explicit DeviceWeights(const Checkpoint& checkpoint);

    const Matrix& output() const { return classifier.rows > 0 ? classifier : embedding; }
};

}  // namespace llama::device
