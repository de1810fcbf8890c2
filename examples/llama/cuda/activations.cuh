// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "freqkv/cuda/device_array.cuh"
#include "freqkv/error.hpp"
#include "llama/model/config.hpp"

namespace llama::device {

/// For people; rounded up, so that nothing is said to need nothing.
inline std::string mebibytes(Index bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

/// What a forward pass of up to `tokens` tokens keeps on the device. Bytes hold elements of the weights' type, which
/// may be another for every matrix.
struct Activations {
    Index tokens = 0;
    freqkv::cuda::DeviceArray<Token> ids;          ///< [tokens]
    freqkv::cuda::DeviceArray<float> x;            ///< [tokens, dim]: the residual stream
    freqkv::cuda::DeviceArray<std::byte> h;        ///< [tokens, dim]: normalised
    freqkv::cuda::DeviceArray<float> qkv;          ///< [tokens, heads + 2 kv_heads, head_dim]
    freqkv::cuda::DeviceArray<float> attended;     ///< [tokens, heads, head_dim]
    freqkv::cuda::DeviceArray<float> gate_up;      ///< [tokens, 2, hidden]
    freqkv::cuda::DeviceArray<std::byte> product;  ///< [tokens, hidden], or attended as the weights' type
    freqkv::cuda::DeviceArray<float> logits;       ///< [vocabulary], of a single token

    Activations() = default;
    Activations(const Config& c, Index n)
        : tokens(n),
          ids(n),
          x(size(n, c.dim)),
          h(size(n, c.dim) * 4),
          qkv(size(n, c.query_dim() + 2 * c.kv_dim())),
          attended(size(n, c.query_dim())),
          gate_up(size(n, 2 * c.hidden)),
          product(size(n, std::max(c.hidden, c.query_dim())) * 4),
          logits(c.vocabulary) {}

    /// Bytes of all of them.
    static Index bytes(const Config& c, Index n) {
        const Index row =
            2 * c.dim + 2 * (c.query_dim() + c.kv_dim()) + 2 * c.hidden + std::max(c.hidden, c.query_dim()) + 1;
        return (size(n, row) + c.vocabulary) * 4;
    }

private:
    static Index size(Index n, Index width) { return freqkv::checked_product("activations", n, width, 4) / 4; }
};

}  // namespace llama::device
