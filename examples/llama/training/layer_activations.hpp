// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <utility>

#include "freqkv/error.hpp"
#include "freqkv/workspace.hpp"
#include "llama/model/config.hpp"
#include "llama/training/layer_attention.hpp"

namespace llama {

/// What the backward pass of a layer needs of its forward pass, besides the layer's input. What can be had from it
/// cheaply, normalised rows and activated gates, is computed again.
struct LayerActivations {
    using Buffer = freqkv::AlignedBuffer<float>;

    Buffer middle;   ///< [tokens, dim]: the residual stream before the feed-forward block
    Buffer q, k, v;  ///< [tokens, heads or kv_heads, head_dim], before rotation
    Buffer a;        ///< [tokens, heads, head_dim]: what attention finds
    Buffer gate;     ///< [tokens, hidden], before its activation
    Buffer up;       ///< [tokens, hidden]
    std::unique_ptr<LayerAttention> attention;

    /// Of up to `n` tokens.
    LayerActivations(const Config& c, Index n, std::unique_ptr<LayerAttention> attention_)
        : middle(size(n, c.dim)),
          q(size(n, c.query_dim())),
          k(size(n, c.kv_dim())),
          v(size(n, c.kv_dim())),
          a(size(n, c.query_dim())),
          gate(size(n, c.hidden)),
          up(size(n, c.hidden)),
          attention(std::move(attention_)) {}

    /// About as many, with the input of the layer and what attention keeps at a ratio of 0.5.
    static Index floats_per_token(const Config& c) {
        return 2 * c.dim + 2 * c.query_dim() + 4 * c.kv_dim() + 2 * c.hidden;
    }

    Index bytes() const {
        Index bytes = attention->bytes();
        for (const Buffer* b : {&middle, &q, &k, &v, &a, &gate, &up}) bytes += b->bytes();
        return bytes;
    }

private:
    static Index size(Index n, Index width) { return freqkv::checked_product("activations", n, width); }
};

}  // namespace llama
