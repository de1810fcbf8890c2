// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

#include "freqkv/packed.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"
#include "llama/model/llama.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/program/host_models.hpp"

namespace llama {

/// Llama as a LanguageModel.
template <class T, class P>
class HostLlama final : public LanguageModel {
public:
    HostLlama(const HostModelParts& parts, const P& policy)
        : llama_(parts.checkpoint, parts.settings.sizes, policy, make_executor(parts.threads), parts.arithmetic,
                 parts.observer) {}

    const Config& config() const override { return llama_.config(); }
    CacheCounts cache(Index layer) const override { return head_cache(layer, 0); }
    CacheCounts head_cache(Index layer, Index head) const override {
        const auto counts = [&](const auto& cache) -> CacheCounts {
            return {cache.size(head), cache.capacity(head), cache.compressions(head)};
        };
        return config().kind(layer).local ? counts(llama_.local_cache(layer)) : counts(llama_.cache(layer));
    }
    bool cache_grows() const override { return llama_.cache_grows(); }
    Index cache_bytes() const override { return llama_.cache_bytes(); }
    Index bookkeeping_bytes() const override { return llama_.bookkeeping_bytes(); }
    std::span<const float> attention_mass(Index layer, Index head) const override {
        if constexpr (freqkv::SinkedKVCache<T, P>::has_attention_mass) {
            if (!config().kind(layer).local) return llama_.cache(layer).attention_mass(head);
        }
        return {};
    }
    void clear() override { llama_.clear(); }
    std::unique_ptr<TextState> save() const override { return std::make_unique<Saved>(llama_.save()); }
    void restore(const TextState& saved) override { llama_.restore(dynamic_cast<const Saved&>(saved).text); }
    void forward(std::span<const Token> tokens) override { llama_.forward(tokens); }
    std::span<const float> logits(Index first, Index count) override { return llama_.logits(first, count); }
    std::span<const float> logits() override { return llama_.logits(); }

private:
    using Model = Llama<T, P, ThreadExecutor>;
    struct Saved final : TextState {
        explicit Saved(typename Model::Text&& of) : text(std::move(of)) {}
        typename Model::Text text;
    };

    Model llama_;
};

/// The model under `policy` with a cache of the settings' type. Takes long to compile: for the sources
/// model_*.cpp alone.
template <class P>
std::unique_ptr<LanguageModel> make_host_llama(const P& policy, const HostModelParts& parts) {
    const auto make = [&]<class T>(T) -> std::unique_ptr<LanguageModel> {
        return std::make_unique<HostLlama<T, P>>(parts, policy);
    };
    switch (parts.settings.type) {
        case CacheType::f32:
            return make(float{});
        case CacheType::f16:
            return make(Eigen::half{});
        case CacheType::bf16:
            return make(Eigen::bfloat16{});
        case CacheType::q8:
            return make(freqkv::Packed<8>{});
        case CacheType::q4:
            return make(freqkv::Packed<4>{});
        case CacheType::q2:
            return make(freqkv::Packed<2>{});
    }
    throw std::invalid_argument("no such type of a cache");
}

}  // namespace llama
