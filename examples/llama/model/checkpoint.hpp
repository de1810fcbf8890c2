// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <string>
#include <vector>

#include "freqkv/workspace.hpp"
#include "llama/io/file.hpp"
#include "llama/model/config.hpp"
#include "llama/model/weights.hpp"

namespace llama {

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian and used in place");

/// The weights of one transformer block.
struct LayerWeights {
    const float* attention_norm = nullptr;         ///< [dim]
    Weights wq;                                    ///< [heads * head_dim, dim]
    Weights wk;                                    ///< [kv_heads * head_dim, dim]
    Weights wv;                                    ///< [kv_heads * head_dim, dim]
    Weights wo;                                    ///< [dim, heads * head_dim]
    const float* q_bias = nullptr;                 ///< [heads * head_dim]; null: none
    const float* k_bias = nullptr;                 ///< [kv_heads * head_dim]; null: none
    const float* v_bias = nullptr;                 ///< [kv_heads * head_dim]; null: none
    const float* o_bias = nullptr;                 ///< [dim]; null: none
    const float* q_norm = nullptr;                 ///< [head_dim], of each query; null: none
    const float* k_norm = nullptr;                 ///< [head_dim], of each key; null: none
    const float* attention_output_norm = nullptr;  ///< [dim], of what attention gives; null: none
    const float* ffn_norm = nullptr;               ///< [dim]
    Weights gate;                                  ///< w1, [hidden, dim]
    Weights down;                                  ///< w2, [dim, hidden]
    Weights up;                                    ///< w3, [hidden, dim]
    const float* gate_bias = nullptr;              ///< [hidden]; null: none
    const float* down_bias = nullptr;              ///< [dim]; null: none
    const float* up_bias = nullptr;                ///< [hidden]; null: none
    const float* ffn_output_norm = nullptr;        ///< [dim], of what the feed-forward block gives; null: none

    // Where projections are joined, the matrices that wq, wk, wv, gate and up are rows of.
    Weights qkv;      ///< [(heads + 2 kv_heads) * head_dim, dim]
    Weights gate_up;  ///< [2 hidden, dim]

    /// Finds wq, wk and wv in qkv, and gate and up in gate_up, if there are any.
    void split_joined(const Config& config);
};

/// A Llama on disk, whatever its format. Matrices are mostly views into mapped files, which are read when they
/// are first used.
struct Checkpoint {
    std::string path;    ///< as given
    std::string format;  ///< for people: "GGUF 3, Q4_K"
    Config config;
    Weights embedding;                  ///< [vocabulary, dim]
    Weights classifier;                 ///< [vocabulary, dim]; the embedding itself where that is shared
    const float* final_norm = nullptr;  ///< [dim]
    std::vector<LayerWeights> layers;

    std::vector<MappedFile> files;                            ///< what the weights point into
    std::vector<freqkv::AlignedBuffer<std::byte>> converted;  ///< and what had to be converted

    /// Bytes that are kept for the converted weights; moves of the checkpoint leave them where they are.
    std::byte* allocate(Index bytes) { return converted.emplace_back(bytes).data(); }
    float* allocate_floats(Index count) {
        return reinterpret_cast<float*>(allocate(freqkv::checked_product("weights", count, Index{sizeof(float)})));
    }

    /// The same weights, which stay this checkpoint's.
    Checkpoint view() const { return {path, format, config, embedding, classifier, final_norm, layers, {}, {}}; }

    /// The matrix itself, or a copy that is kept here if it is of F32, F16 or BF16 and not aligned to its elements.
    Weights aligned(Weights matrix);
};

/// Trained numbers: all weights, a shared classifier once.
Index count_parameters(const Config& config);

}  // namespace llama
