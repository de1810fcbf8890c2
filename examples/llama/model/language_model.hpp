// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>

#include "llama/model/config.hpp"

namespace llama {

/// What became of the text in one head, or in a layer whose heads are alike.
class CacheCounts {
public:
    CacheCounts(Index size, Index capacity, Index compressions)
        : size_(size), capacity_(capacity), compressions_(compressions) {}

    Index size() const { return size_; }
    Index capacity() const { return capacity_; }
    Index compressions() const { return compressions_; }

private:
    Index size_, capacity_, compressions_;
};

/// What a model's caches hold of a text, to be gone back to.
class TextState {
public:
    TextState() = default;
    TextState(const TextState&) = delete;
    TextState& operator=(const TextState&) = delete;
    virtual ~TextState() = default;
};

/// A model with its caches, whatever it runs on, stores and compresses: a call works for all layers, so that what is
/// behind it is looked up once. Code that knows all that at compile time uses Llama or CudaLlama.
class LanguageModel {
public:
    LanguageModel() = default;
    LanguageModel(const LanguageModel&) = delete;
    LanguageModel& operator=(const LanguageModel&) = delete;
    virtual ~LanguageModel() = default;

    virtual const Config& config() const = 0;
    /// Of the layer's first head.
    virtual CacheCounts cache(Index layer) const = 0;
    /// Of any of its heads; where they cannot differ it is the same.
    virtual CacheCounts head_cache(Index layer, Index /*head*/) const { return cache(layer); }
    /// Whether the policy lets the caches grow with the text.
    virtual bool cache_grows() const = 0;
    /// Bytes of the keys and values of all layers.
    virtual Index cache_bytes() const = 0;
    /// Bytes that the caches hold beside them, as far as entries need them; 0 where that is not known.
    virtual Index bookkeeping_bytes() const { return 0; }
    /// The attention that each entry of a head has been given since it came, summed over the group's query heads; empty
    /// where the policy does not ask for it. Valid until the next call.
    virtual std::span<const float> attention_mass(Index /*layer*/, Index /*head*/) const { return {}; }
    /// Forgets the text.
    virtual void clear() = 0;
    /// A copy of the text so far; null where that is not possible.
    virtual std::unique_ptr<TextState> save() const { return nullptr; }
    /// Goes back to what this model saved, any number of times.
    virtual void restore(const TextState& /*saved*/) {}
    /// Feeds tokens, whose ids must be within the vocabulary. On a GPU the work may still be under way when it returns.
    /// There it throws freqkv::Error, without change, for other ids and for texts that a cache of policy "full" has no
    /// room for; CudaError for what the GPU refuses, after which only clear() leads back to a model of one text.
    virtual void forward(std::span<const Token> tokens) = 0;
    /// Logits [count, vocabulary] after tokens [first, first + count) of the latest forward(). Valid until the next
    /// call.
    virtual std::span<const float> logits(Index first, Index count) = 0;
    /// Logits [vocabulary] after the last token of the latest forward().
    virtual std::span<const float> logits() = 0;
};

}  // namespace llama
