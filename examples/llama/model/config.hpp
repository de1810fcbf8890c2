// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
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
        linear,   ///< positions divided by `factor`
        yarn,     ///< slow frequencies divided, fast ones kept, a ramp between (Peng et al. 2023)
        llama3,   ///< the same by wavelengths, as LLaMA-3.1
        dynamic,  ///< NTK by the length of the text: nothing below the window, which a bounded cache never leaves
    };
    Type type = Type::none;
    double factor = 1;
    Index original_context = 0;        ///< window of the first training (yarn, llama3)
    double beta_fast = 32;             ///< yarn: turns within the window from which on a frequency is kept
    double beta_slow = 1;              ///< yarn: turns up to which it is divided
    bool truncate = true;              ///< yarn: the ends of the ramp are whole dimensions
    double attention_factor = -1;      ///< yarn: of queries and keys after rotation; < 0: from `factor`
    double low_frequency_factor = 1;   ///< llama3: wavelengths above original_context / this are divided
    double high_frequency_factor = 4;  ///< llama3: wavelengths below original_context / this are kept
    std::vector<double> divisors;      ///< of each frequency, where the checkpoint lists them; empty: none
};

/// The shape of a Llama, and what a checkpoint says of its arithmetic.
struct Config {
    Index dim = 0;       ///< width of the residual stream
    Index hidden = 0;    ///< width inside the feed-forward block
    Index layers = 0;    ///< transformer blocks
    Index heads = 0;     ///< query heads
    Index kv_heads = 0;  ///< key and value heads; each serves heads / kv_heads query heads
    Index head_dim = 0;  ///< dimensions of a head; mostly, not always, dim / heads
    Index vocabulary = 0;
    Index context = 0;               ///< tokens the model was trained on at once
    bool shared_classifier = false;  ///< the token embedding is the output projection, too
    bool attention_bias = false;     ///< q, k and v have a bias
    Index sliding_window = 0;        ///< a token sees that many, itself included; 0: all
    double norm_epsilon = 1e-5;
    double rope_base = 10000;
    freqkv::RopePairing rope_pairing = freqkv::RopePairing::adjacent;
    RopeScaling rope_scaling{};
    Token begin_of_text = -1;          ///< -1: none
    std::vector<Token> end_of_text{};  ///< any of them ends a text

    Index query_dim() const { return heads * head_dim; }
    Index kv_dim() const { return kv_heads * head_dim; }
};

/// Sizes of the caches, the same for all layers.
struct CacheSizes {
    Index capacity = 0;  ///< entries; a growing cache (freqkv::Full) takes it as a first size
    Index sinks = 4;
    Index recent = 0;
};

/// Refuses, with FileError, what no checkpoint can have. Every size is bounded so far that no product of the
/// weights' sizes leaves 64 bits; whether the file is as long is another question.
void check_config(const Config& config, const std::string& path);

}  // namespace llama
