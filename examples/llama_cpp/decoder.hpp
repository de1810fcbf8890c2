// SPDX-License-Identifier: MIT
#pragma once

#include <llama.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "llama/model/cache_settings.hpp"
#include "llama/model/language_model.hpp"

namespace llama {

/// A BoundedContext whose policy is chosen when the program runs; or under Full a plain context.
class Decoder {
public:
    Decoder() = default;
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;
    virtual ~Decoder() = default;

    virtual llama_context* context() const = 0;
    virtual Index cache_bytes() const = 0;
    virtual Index compressions() const = 0;
    /// Of the one sequence.
    virtual void clear() = 0;
    virtual std::unique_ptr<TextState> save() const = 0;
    virtual bool restore(const TextState& saved) = 0;
    /// As BoundedContext::decode().
    virtual std::int32_t decode(const llama_batch& batch,
                                const std::function<void(std::int32_t, std::int32_t)>& decoded) = 0;
};

/// Throws std::runtime_error for a model that cannot be compressed, and UsageError for a policy that asks for more than
/// a foreign cache has.
std::unique_ptr<Decoder> make_decoder(llama_model* model, const llama_context_params& params,
                                      const CacheSettings& settings);

}  // namespace llama
