// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_layout.hpp"

#include <algorithm>
#include <cstddef>

#include "llama/io/file.hpp"

namespace llama {

namespace {

// Where row `row` of a matrix of heads comes from: neighbours 2 i and 2 i + 1 of a head become i and half + i.
Index source_row(Index row, Index head_dim) {
    const Index first = row / head_dim * head_dim;
    const Index i = row - first, half = head_dim / 2;
    return first + (i < half ? 2 * i : 2 * (i - half) + 1);
}

// A copy with its rows sorted, if there is a matrix.
Weights sort_rows(Checkpoint& checkpoint, Weights matrix) {
    if (matrix.data == nullptr) return matrix;
    const auto row_bytes = static_cast<std::size_t>(matrix.row_bytes());
    std::byte* const sorted = checkpoint.allocate(matrix.bytes());
    for (Index r = 0; r < matrix.rows; ++r) {
        const std::byte* const from = matrix.row(source_row(r, checkpoint.config.head_dim));
        std::copy_n(from, row_bytes, sorted + static_cast<std::size_t>(r) * row_bytes);
    }
    matrix.data = sorted;
    return matrix;
}

const float* sort_vector(Checkpoint& checkpoint, const float* vector, Index size) {
    return vector == nullptr ? nullptr
                             : reinterpret_cast<const float*>(sort_rows(checkpoint, weights(vector, size, 1)).data);
}

}  // namespace

void arrange_as_hugging_face(Checkpoint& checkpoint) {
    Config& c = checkpoint.config;
    if (c.output_norms && c.norm_offset == 0) {
        throw FileError(checkpoint.path, "norms with their offset in them are not brought into Hugging Face's layout");
    }
    if (c.rope_pairing == freqkv::RopePairing::half_split) return;
    if (c.rotation() != c.head_dim || c.joined_projections) {
        throw FileError(checkpoint.path,
                        "queries and keys of which neighbours rotate, only in part or joined with others, are not "
                        "brought into Hugging Face's layout");
    }
    for (LayerWeights& layer : checkpoint.layers) {
        layer.wq = sort_rows(checkpoint, layer.wq);
        layer.wk = sort_rows(checkpoint, layer.wk);
        layer.qkv = {};  // of which they may have been rows
        layer.q_bias = sort_vector(checkpoint, layer.q_bias, c.query_dim());
        layer.k_bias = sort_vector(checkpoint, layer.k_bias, c.kv_dim());
        layer.q_norm = sort_vector(checkpoint, layer.q_norm, c.head_dim);
        layer.k_norm = sort_vector(checkpoint, layer.k_norm, c.head_dim);
    }
    c.rope_pairing = freqkv::RopePairing::half_split;
}

}  // namespace llama
