// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>

#include "freqkv/view.hpp"
#include "llama/model/checkpoint.hpp"

namespace llama {

/// A model that forgets nothing and shows the keys and values of what it has read. The views are [tokens read,
/// head_dim], of a layer that sees the whole text, and valid until the next change.
class ModelEntries {
public:
    virtual ~ModelEntries() = default;

    virtual void clear() = 0;
    virtual void forward(std::span<const Token> tokens) = 0;
    /// As the cache stores them: each rotated at its place in the text.
    virtual freqkv::MatrixView<const float> keys(Index layer, Index head) const = 0;
    virtual freqkv::MatrixView<const float> values(Index layer, Index head) const = 0;
};

/// For texts of up to `tokens`. The checkpoint must outlive it.
std::unique_ptr<ModelEntries> open_model_entries(const Checkpoint& checkpoint, Index tokens, int threads);

}  // namespace llama
