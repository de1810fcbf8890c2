// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "freqkv/workspace.hpp"
#include "llama/model/blocks.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/matrix_product.hpp"
#include "llama/model/rope_scaling.hpp"

namespace llama {

/// A Llama with a cache that stores T under a policy P. Every layer: x += attention(rms_norm(x)), then
/// x += feed_forward(rms_norm(x)). Projections are computed for all tokens given at once; attention and
/// the cache are the library's, which takes queries, keys and values before their rotation.
template <class T, class P, freqkv::Executor E>
class Llama {
public:
    using Policy = P;
    using Cache = freqkv::SinkedKVCache<T, P>;

    /// The checkpoint must outlive the model. Throws freqkv::Error if the sizes and the policy do not go
    /// together.
    Llama(const Checkpoint& checkpoint, const CacheSizes& sizes, const P& policy, E executor,
          Arithmetic arithmetic = Arithmetic::exact)
        : checkpoint_(checkpoint),
          config_(checkpoint.config),
          executor_(std::move(executor)),
          arithmetic_(arithmetic),
          attention_({.scale = score_scale(config_)}) {
        const freqkv::Rope<freqkv::Arithmetic<T>> rope(rope_options(config_), std::min(sizes.capacity, longest_table));
        freqkv::CacheOptions options;
        options.kv_heads = config_.kv_heads;
        options.query_heads = config_.heads;
        options.key_dim = config_.head_dim;
        options.capacity = sizes.capacity;
        options.sinks = sizes.sinks;
        options.recent = sizes.recent;
        caches_.reserve(static_cast<std::size_t>(config_.layers));
        for (options.layer = 0; options.layer < config_.layers; ++options.layer) {
            caches_.emplace_back(options, rope, policy, &workspace_);
        }
    }
    Llama(const Llama&) = delete;  // the caches share the workspace
    Llama& operator=(const Llama&) = delete;

    const Config& config() const { return config_; }
    const Cache& cache(Index layer) const { return caches_[static_cast<std::size_t>(layer)]; }

    /// Whether the cache grows with the text.
    static constexpr bool cache_grows() { return freqkv::GrowingPolicy<P>; }

    /// Bytes of the keys and values of all layers.
    Index cache_bytes() const {
        Index bytes = 0;
        for (const Cache& cache : caches_) bytes += cache.memory().entries();
        return bytes;
    }

    /// Forgets the text.
    void clear() {
        for (Cache& cache : caches_) cache.clear();
    }

    /// Feeds tokens. Allocates when there are more of them than ever before. Ids must be within the
    /// vocabulary.
    void forward(std::span<const Token> tokens) {
        tokens_ = static_cast<Index>(tokens.size());
        if (tokens_ > state_.tokens) state_ = State(config_, tokens_);
        for (Index t = 0; t < tokens_; ++t) {
            const Token token = tokens[static_cast<std::size_t>(t)];
            dequantize(checkpoint_.embedding, token, 0, config_.dim, state_.x.data() + t * config_.dim);
        }
        for (Index l = 0; l < config_.layers; ++l) {
            const LayerWeights& layer = checkpoint_.layers[static_cast<std::size_t>(l)];
            norm(layer.attention_norm);
            attend(layer, caches_[static_cast<std::size_t>(l)]);
            norm(layer.ffn_norm);
            feed_forward(layer);
        }
        norm(checkpoint_.final_norm);
    }

    /// Logits [count, vocabulary] after tokens [first, first + count) of the latest forward(). Valid
    /// until the next call. Allocates when `count` is larger than ever before.
    std::span<const float> logits(Index first, Index count) {
        const Index size = freqkv::checked_product("number of logits", count, config_.vocabulary);
        if (size > logits_.size()) logits_ = freqkv::AlignedBuffer<float>(size);
        multiply({{checkpoint_.classifier, logits_.data()}}, state_.h.data() + first * config_.dim, count, executor_,
                 arithmetic_);
        return {logits_.data(), static_cast<std::size_t>(size)};
    }

    /// Logits [vocabulary] after the last token of the latest forward().
    std::span<const float> logits() { return logits(tokens_ - 1, 1); }

private:
    // Positions whose angles are kept; a longer growing cache computes the others when it needs them.
    static constexpr Index longest_table = Index{1} << 18;

    // Activations of `tokens` tokens.
    struct State {
        Index tokens = 0;
        freqkv::AlignedBuffer<float> x;     // [tokens, dim]: the residual stream
        freqkv::AlignedBuffer<float> h;     // [tokens, dim]: normalised
        freqkv::AlignedBuffer<float> a;     // [tokens, heads, head_dim]: what attention finds
        freqkv::AlignedBuffer<float> y;     // [tokens, dim]: what a block adds
        freqkv::AlignedBuffer<float> q;     // [tokens, heads, head_dim]
        freqkv::AlignedBuffer<float> k;     // [tokens, kv_heads, head_dim]
        freqkv::AlignedBuffer<float> v;     // [tokens, kv_heads, head_dim]
        freqkv::AlignedBuffer<float> gate;  // [tokens, hidden]
        freqkv::AlignedBuffer<float> up;    // [tokens, hidden]

        State() = default;
        State(const Config& c, Index n)
            : tokens(n),
              x(size(n, c.dim)),
              h(size(n, c.dim)),
              a(size(n, c.query_dim())),
              y(size(n, c.dim)),
              q(size(n, c.query_dim())),
              k(size(n, c.kv_dim())),
              v(size(n, c.kv_dim())),
              gate(size(n, c.hidden)),
              up(size(n, c.hidden)) {}

        static Index size(Index n, Index width) { return freqkv::checked_product("activations", n, width); }
    };

    // h = rms_norm(x)
    void norm(const float* weight) {
        const Index dim = config_.dim;
        const auto epsilon = static_cast<float>(config_.norm_epsilon);
        for (Index t = 0; t < tokens_; ++t) {
            rms_norm(state_.x.data() + t * dim, weight, state_.h.data() + t * dim, dim, epsilon);
        }
    }

    // x += y
    void add() {
        const Index n = tokens_ * config_.dim;
        Eigen::Map<Eigen::ArrayXf>(state_.x.data(), n) += Eigen::Map<const Eigen::ArrayXf>(state_.y.data(), n);
    }

    // Multiply-adds of the tokens that fit into the cache at once, with a full cache.
    bool attention_is_small(const Cache& cache) const {
        const Index entries = std::max(cache.capacity(), cache.size() + 1);
        return std::min(tokens_, entries) * entries * 2 * config_.query_dim() < detail::serial_work_of_many;
    }

    void attend(const LayerWeights& layer, Cache& cache) {
        const State& s = state_;
        multiply({{layer.wq, s.q.data(), layer.q_bias},
                  {layer.wk, s.k.data(), layer.k_bias},
                  {layer.wv, s.v.data(), layer.v_bias}},
                 s.h.data(), tokens_, executor_, arithmetic_);
        using View = freqkv::KVView<float>;
        const View q = View::token_major(s.q.data(), config_.heads, tokens_, config_.head_dim);
        const View k = View::token_major(s.k.data(), config_.kv_heads, tokens_, config_.head_dim);
        const View v = View::token_major(s.v.data(), config_.kv_heads, tokens_, config_.head_dim);
        const View out = View::token_major(s.a.data(), config_.heads, tokens_, config_.head_dim);
        attention_.forward(q, k, v, cache, out, SerialIf<E>{executor_, attention_is_small(cache)});
        multiply({{layer.wo, s.y.data()}}, s.a.data(), tokens_, executor_, arithmetic_);
        add();
    }

    void feed_forward(const LayerWeights& layer) {
        const State& s = state_;
        multiply({{layer.gate, s.gate.data()}, {layer.up, s.up.data()}}, s.h.data(), tokens_, executor_, arithmetic_);
        const Index hidden = config_.hidden;
        const auto activate = [&](Index t, Index) {
            swiglu(s.gate.data() + t * hidden, s.up.data() + t * hidden, hidden);
        };
        share_exponentials(executor_, tokens_, hidden, activate);
        multiply({{layer.down, s.y.data()}}, s.gate.data(), tokens_, executor_, arithmetic_);
        add();
    }

    const Checkpoint& checkpoint_;
    Config config_;
    E executor_;
    Arithmetic arithmetic_;
    freqkv::Workspace workspace_;
    std::vector<Cache> caches_;  // [layers]
    freqkv::ChunkedAttention<float> attention_;
    State state_;
    freqkv::AlignedBuffer<float> logits_;
    Index tokens_ = 0;  // of the latest forward()
};

}  // namespace llama
