// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

#include "freqkv/config.hpp"
#include "llama/file.hpp"

namespace llama {

using freqkv::Index;

/// A token id, as checkpoints and tokenizers number them.
using Token = std::int32_t;

/// The shape of a Llama: what the header of a checkpoint says.
struct Config {
    Index dim = 0;       ///< width of the residual stream
    Index hidden = 0;    ///< width inside the feed-forward block
    Index layers = 0;    ///< transformer blocks
    Index heads = 0;     ///< query heads; dim = heads * head_dim
    Index kv_heads = 0;  ///< key and value heads; each serves heads / kv_heads query heads
    Index vocabulary = 0;
    Index context = 0;               ///< tokens the model was trained on at once
    bool shared_classifier = false;  ///< the token embedding is the output projection, too

    Index head_dim() const { return dim / heads; }
    Index kv_dim() const { return kv_heads * head_dim(); }
};

/// Sizes of the caches, the same for all layers.
struct CacheSizes {
    Index capacity = 0;  ///< entries; a growing cache (freqkv::Full) takes it as a first size
    Index sinks = 4;
    Index recent = 0;
};

/// Refuses, with FileError, a shape that no checkpoint can have. Every size is bounded so far that no
/// product of the weights' sizes leaves 64 bits; whether the file is as long is another question.
inline void check_config(const Config& config, const std::string& path) {
    const auto check = [&](const char* name, Index value, Index most) {
        if (value < 1 || value > most) {
            throw FileError(path, std::string("the header gives ") + name + " " + std::to_string(value) +
                                      ", which must be 1 to " + std::to_string(most));
        }
    };
    check("dim", config.dim, Index{1} << 20);
    check("hidden_dim", config.hidden, Index{1} << 22);
    check("n_layers", config.layers, Index{1} << 14);
    check("n_heads", config.heads, config.dim);
    check("n_kv_heads", config.kv_heads, config.heads);
    check("vocab_size", config.vocabulary, Index{1} << 24);
    check("seq_len", config.context, Index{1} << 24);
    if (config.dim % config.heads != 0 || config.head_dim() % 2 != 0) {
        throw FileError(path, "the header gives dim " + std::to_string(config.dim) + " and n_heads " +
                                  std::to_string(config.heads) + ", which must divide it into heads of even size");
    }
    if (config.heads % config.kv_heads != 0) {
        throw FileError(path, "the header gives n_kv_heads " + std::to_string(config.kv_heads) +
                                  ", which must divide n_heads " + std::to_string(config.heads));
    }
}

}  // namespace llama
