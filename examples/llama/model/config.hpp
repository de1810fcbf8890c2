// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/rope_options.hpp"
#include "llama/io/file.hpp"

namespace llama {

using freqkv::Index;

/// A token id, as checkpoints and tokenizers number them.
using Token = std::int32_t;

/// Counts of entries and tokens: beyond this no memory reaches.
inline constexpr Index most_tokens = Index{1} << 40;

/// How a checkpoint stretches its rotary frequencies beyond the window of its first training.
struct RopeScaling {
    enum class Type : std::uint8_t {
        none,
        linear,    ///< positions divided by `factor`
        yarn,      ///< slow frequencies divided, fast ones kept, a ramp between (Peng et al. 2023)
        llama3,    ///< the same by wavelengths, as LLaMA-3.1
        dynamic,   ///< NTK by the number of positions: nothing within the window
        longrope,  ///< two lists of divisors, for few positions and for many (Ding et al. 2024)
    };
    Type type = Type::none;
    double factor = 1;
    Index original_context = 0;    ///< window of the first training (yarn, llama3, longrope)
    double beta_fast = 32;         ///< yarn: turns within the window from which on a frequency is kept
    double beta_slow = 1;          ///< yarn: turns up to which it is divided
    bool truncate = true;          ///< yarn: the ends of the ramp are whole dimensions
    double attention_factor = -1;  ///< yarn, longrope: of queries and keys after rotation; < 0: yarn's, from `factor`
    double low_frequency_factor = 1;    ///< llama3: wavelengths above original_context / this are divided
    double high_frequency_factor = 4;   ///< llama3: wavelengths below original_context / this are kept
    std::vector<double> divisors;       ///< of each frequency, where the checkpoint lists them; empty: none
    std::vector<double> long_divisors;  ///< longrope: in their place for more than original_context positions
};

/// What the gate of a feed-forward block does to its input.
enum class Activation : std::uint8_t {
    silu,       ///< x / (1 + exp(-x))
    gelu_tanh,  ///< GELU by a hyperbolic tangent (Hendrycks and Gimpel 2016), "gelu_pytorch_tanh"
};

/// What a layer's attention sees, and whether its queries and keys turn.
struct LayerKind {
    bool local = false;  ///< a token sees the latest Config::local_window tokens only
    bool rotated = true;
};

/// The shape of a Llama, and what a checkpoint says of its arithmetic. What the defaults say is LLaMA-2's; features.hpp
/// names what deviates from it.
struct Config {
    Index dim = 0;       ///< width of the residual stream
    Index hidden = 0;    ///< width inside the feed-forward block
    Index layers = 0;    ///< transformer blocks
    Index heads = 0;     ///< query heads
    Index kv_heads = 0;  ///< key and value heads; each serves heads / kv_heads query heads
    Index head_dim = 0;  ///< dimensions of a head; mostly, not always, dim / heads
    Index vocabulary = 0;
    Index context = 0;                ///< tokens the model was trained on at once
    bool shared_classifier = false;   ///< the token embedding is the output projection, too
    bool attention_bias = false;      ///< q, k and v have a bias
    bool output_bias = false;         ///< so has the projection behind the attention
    bool feed_forward_bias = false;   ///< and so have gate, up and down
    bool head_norms = false;          ///< each head's query and key are normalised before they turn
    bool output_norms = false;        ///< what a block gives is normalised before it is added
    bool joined_projections = false;  ///< q, k and v stand in one matrix, gate and up in another
    Activation activation = Activation::silu;
    double embedding_scale = 1;
    double query_scalar = 0;           ///< scores are divided by its square root; 0: by that of head_dim
    double score_cap = 0;              ///< scores become score_cap * tanh(score / score_cap); 0: they stay
    double logit_cap = 0;              ///< the same of logits
    Index sliding_window = 0;          ///< a token sees that many in every layer, itself included; 0: all
    std::vector<bool> local_layers{};  ///< [layers], or none: those in which a token sees local_window tokens
    Index local_window = 0;            ///< itself included
    double norm_epsilon = 1e-5;
    double norm_offset = 0;  ///< is added to the weights of norms
    double rope_base = 10000;
    double local_rope_base = 0;  ///< that of local layers, which is then not scaled; 0: they turn as the others
    Index rotated_dims = -1;     ///< the first that many dimensions of a head turn; -1: all
    std::vector<bool> unrotated_layers{};  ///< [layers], or none: those in which nothing turns
    freqkv::RopePairing rope_pairing = freqkv::RopePairing::adjacent;
    RopeScaling rope_scaling{};
    Token begin_of_text = -1;          ///< -1: none
    std::vector<Token> end_of_text{};  ///< any of them ends a text

    Index query_dim() const { return heads * head_dim; }
    Index kv_dim() const { return kv_heads * head_dim; }
    Index rotation() const { return rotated_dims < 0 ? head_dim : rotated_dims; }

    LayerKind kind(Index layer) const {
        const auto l = static_cast<std::size_t>(layer);
        return {!local_layers.empty() && local_layers[l], unrotated_layers.empty() || !unrotated_layers[l]};
    }
    Index count_local_layers() const { return std::count(local_layers.begin(), local_layers.end(), true); }
    /// The first layer that sees the whole text; 0 if none does.
    Index first_global_layer() const {
        const auto first = std::find(local_layers.begin(), local_layers.end(), false);
        return first == local_layers.end() ? 0 : first - local_layers.begin();
    }
    /// Entries of a local layer's cache: its window, and as many again until the oldest are dropped, up to 512. Each
    /// drop moves a window, so the fewer there are the less they cost.
    Index local_capacity() const { return local_window + std::min<Index>(local_window, 512); }
};

/// Tokens that a query was trained to see at most: the context, or a sliding window that is shorter.
inline Index trained_window(const Config& config) {
    return config.sliding_window > 0 ? std::min(config.sliding_window, config.context) : config.context;
}

/// Sizes of the caches, of all layers and heads alike but for `head_capacities`.
struct CacheSizes {
    Index capacity = 0;  ///< entries; a growing cache (freqkv::Full) takes it as a first size
    Index sinks = 4;
    Index recent = 0;
    Index positions = 0;  ///< those that the text is expected to reach, where they are not bounded; 0: `capacity`
    /// [layers][kv_heads] instead of `capacity`, which is then the largest of them; of no meaning where a layer is
    /// local. Empty: all alike.
    std::vector<std::vector<Index>> head_capacities{};
    bool text_positions = false;  ///< freqkv::Positions::text, where a layer is not local
    bool weighted = false;        ///< as freqkv::CacheOptions

    Index capacity_of(Index layer, Index head) const {
        if (head_capacities.empty()) return capacity;
        return head_capacities[static_cast<std::size_t>(layer)][static_cast<std::size_t>(head)];
    }

    /// Beyond which no query or key stands, as far as is known: some rotary scalings go by it.
    Index expected_positions() const { return std::max(positions, capacity); }
};

/// Refuses, with FileError, what no checkpoint can have. Every size is bounded so far that no product of the
/// weights' sizes leaves 64 bits; whether the file is as long is another question.
void check_config(const Config& config, const std::string& path);

}  // namespace llama
