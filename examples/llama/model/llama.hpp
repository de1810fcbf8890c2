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
#include "freqkv/policy/local_window.hpp"
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
/// the cache are the library's, which takes queries, keys and values before their rotation. What other models do beyond
/// that is null or 0 in the weights and the configuration of those that do not.
///
/// The policy is for layers that see the whole text. Local ones have caches of another type, which drop what no later
/// token sees; attention masks what is left beyond the window.
template <class T, class P, freqkv::Executor E>
class Llama {
public:
    using Policy = P;
    using Cache = freqkv::SinkedKVCache<T, P>;
    using LocalCache = freqkv::SinkedKVCache<T, freqkv::LocalWindow>;

    /// The checkpoint must outlive the model. Throws freqkv::Error if the sizes and the policy do not go
    /// together. The observer sees the compressions of layers that are not local.
    Llama(const Checkpoint& checkpoint, const CacheSizes& sizes, const P& policy, E executor,
          Arithmetic arithmetic = Arithmetic::exact, const freqkv::Observer& observer = {})
        : checkpoint_(checkpoint), config_(checkpoint.config), executor_(std::move(executor)), arithmetic_(arithmetic) {
        freqkv::CacheOptions options;
        options.kv_heads = config_.kv_heads;
        options.query_heads = config_.heads;
        options.key_dim = config_.head_dim;
        const Index local_layers = config_.count_local_layers();
        caches_.reserve(static_cast<std::size_t>(config_.layers - local_layers));
        local_caches_.reserve(static_cast<std::size_t>(local_layers));
        kinds_.reserve(4);
        layers_.reserve(static_cast<std::size_t>(config_.layers));
        for (options.layer = 0; options.layer < config_.layers; ++options.layer) {
            const LayerKind kind = config_.kind(options.layer);
            const Kind& parts = find_kind(kind, sizes);
            const Index number = &parts - kinds_.data();
            if (kind.local) {
                layers_.push_back({number, static_cast<Index>(local_caches_.size())});
                options.capacity = config_.local_capacity();
                options.head_capacities.clear();
                options.sinks = options.recent = 0;
                options.observer = {};
                options.positions = freqkv::Positions::index;
                options.weighted = false;
                local_caches_.emplace_back(options, parts.rope, local_policy(), &workspace_);
            } else {
                layers_.push_back({number, static_cast<Index>(caches_.size())});
                options.capacity = sizes.capacity;
                if (!sizes.head_capacities.empty()) {
                    options.head_capacities = sizes.head_capacities[static_cast<std::size_t>(options.layer)];
                }
                options.observer = observer;
                if (sizes.text_positions) options.positions = freqkv::Positions::text;
                options.weighted = sizes.weighted;
                options.sinks = sizes.sinks;
                options.recent = sizes.recent;
                caches_.emplace_back(options, parts.rope, policy, &workspace_);
            }
        }
    }
    Llama(const Llama&) = delete;  // the caches share the workspace
    Llama& operator=(const Llama&) = delete;

    const Config& config() const { return config_; }
    /// Of a layer that is not local.
    const Cache& cache(Index layer) const {
        return caches_[static_cast<std::size_t>(layers_[static_cast<std::size_t>(layer)].cache)];
    }
    const LocalCache& local_cache(Index layer) const {
        return local_caches_[static_cast<std::size_t>(layers_[static_cast<std::size_t>(layer)].cache)];
    }

    /// Whether the cache grows with the text.
    static constexpr bool cache_grows() { return freqkv::GrowingPolicy<P>; }

    /// Bytes of the keys and values of all layers.
    Index cache_bytes() const {
        Index bytes = 0;
        for (const Cache& cache : caches_) bytes += cache.memory().entries();
        for (const LocalCache& cache : local_caches_) bytes += cache.memory().entries();
        return bytes;
    }

    /// Bytes that the caches hold beside them.
    Index bookkeeping_bytes() const {
        Index bytes = 0;
        for (const Cache& cache : caches_) bytes += cache.memory().bookkeeping;
        for (const LocalCache& cache : local_caches_) bytes += cache.memory().bookkeeping;
        return bytes;
    }

    /// The text so far.
    struct Text {
        std::vector<Cache> caches;
        std::vector<LocalCache> local_caches;
    };
    Text save() const { return {caches_, local_caches_}; }
    /// `text` must be of this model.
    void restore(const Text& text) {
        caches_ = text.caches;
        local_caches_ = text.local_caches;
    }

    /// Forgets the text.
    void clear() {
        for (Cache& cache : caches_) cache.clear();
        for (LocalCache& cache : local_caches_) cache.clear();
    }

    /// Feeds tokens. Allocates when there are more of them than ever before. Ids must be within the
    /// vocabulary.
    void forward(std::span<const Token> tokens) {
        tokens_ = static_cast<Index>(tokens.size());
        if (tokens_ > state_.tokens) state_ = State(config_, tokens_);
        for (Index t = 0; t < tokens_; ++t) {
            const Token token = tokens[static_cast<std::size_t>(t)];
            float* const x = state_.x.data() + t * config_.dim;
            dequantize(checkpoint_.embedding, token, 0, config_.dim, x);
            if (config_.embedding_scale != 1) {
                Eigen::Map<Eigen::ArrayXf>(x, config_.dim) *= static_cast<float>(config_.embedding_scale);
            }
        }
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const LayerWeights& layer = checkpoint_.layers[l];
            norm(layer.attention_norm);
            attend(layer, layers_[l]);
            add(layer.attention_output_norm);
            norm(layer.ffn_norm);
            feed_forward(layer);
            add(layer.ffn_output_norm);
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
        if (config_.logit_cap > 0) {
            const auto cap = [&](Index t, Index) {
                soft_cap(logits_.data() + t * config_.vocabulary, config_.vocabulary,
                         static_cast<float>(config_.logit_cap));
            };
            share_exponentials(executor_, count, config_.vocabulary, cap);
        }
        return {logits_.data(), static_cast<std::size_t>(size)};
    }

    /// Logits [vocabulary] after the last token of the latest forward().
    std::span<const float> logits() { return logits(tokens_ - 1, 1); }

private:
    // Positions whose angles are kept; a longer growing cache computes the others when it needs them.
    static constexpr Index longest_table = Index{1} << 18;

    // What layers of a kind share.
    struct Kind {
        LayerKind kind;
        freqkv::Rope<freqkv::Arithmetic<T>> rope;
        freqkv::ChunkedAttention<float> attention;
        float rotated_query_factor;
    };
    struct Layer {
        Index kind;   // in kinds_
        Index cache;  // in caches_ or local_caches_
    };

    const Kind& find_kind(LayerKind kind, const CacheSizes& sizes) {
        for (const Kind& known : kinds_) {
            if (known.kind.local == kind.local && known.kind.rotated == kind.rotated) return known;
        }
        const freqkv::AttentionOptions attention{score_scale(config_, kind), config_.score_cap,
                                                 kind.local ? config_.local_window : 0};
        return kinds_.emplace_back(Kind{kind, make_rope(kind, sizes), freqkv::ChunkedAttention<float>(attention),
                                        static_cast<float>(llama::rotated_query_factor(config_, kind))});
    }

    freqkv::Rope<freqkv::Arithmetic<T>> make_rope(LayerKind kind, const CacheSizes& sizes) const {
        using Rope = freqkv::Rope<freqkv::Arithmetic<T>>;
        const freqkv::RopeOptions options = rope_options(config_, sizes.expected_positions(), kind);
        if (!kind.local && sizes.text_positions) {
            return Rope(options).in_half_steps(std::min(sizes.expected_positions(), longest_table));
        }
        return Rope(options, std::min(kind.local ? config_.local_capacity() : sizes.capacity, longest_table));
    }

    // Keeps the window, or one entry fewer by rounding, which is what the next token needs.
    freqkv::LocalWindow local_policy() const {
        return freqkv::LocalWindow((static_cast<double>(config_.local_window) + 0.5) /
                                   static_cast<double>(config_.local_capacity()));
    }

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

    // to [rows, width] = rms_norm(from); `to` may be `from`.
    void norm(const float* from, const float* weight, float* to, Index rows, Index width) const {
        const auto epsilon = static_cast<float>(config_.norm_epsilon);
        const auto offset = static_cast<float>(config_.norm_offset);
        for (Index r = 0; r < rows; ++r) rms_norm(from + r * width, weight, to + r * width, width, epsilon, offset);
    }

    // h = rms_norm(x)
    void norm(const float* weight) { norm(state_.x.data(), weight, state_.h.data(), tokens_, config_.dim); }

    // x += y, which is normalised first if there is a weight for it
    void add(const float* output_norm) {
        if (output_norm != nullptr) norm(state_.y.data(), output_norm, state_.y.data(), tokens_, config_.dim);
        const Index n = tokens_ * config_.dim;
        Eigen::Map<Eigen::ArrayXf>(state_.x.data(), n) += Eigen::Map<const Eigen::ArrayXf>(state_.y.data(), n);
    }

    // Multiply-adds of the tokens that fit into the cache at once, with a full cache.
    template <class AnyCache>
    bool attention_is_small(const AnyCache& cache) const {
        const Index entries = std::max(cache.capacity(), cache.size() + 1);
        return std::min(tokens_, entries) * entries * 2 * config_.query_dim() < detail::serial_work_of_many;
    }

    // y = attention(h)
    void attend(const LayerWeights& layer, const Layer& place) {
        Kind& kind = kinds_[static_cast<std::size_t>(place.kind)];
        const auto cache = static_cast<std::size_t>(place.cache);
        kind.kind.local ? attend(layer, kind, local_caches_[cache]) : attend(layer, kind, caches_[cache]);
    }

    template <class AnyCache>
    void attend(const LayerWeights& layer, Kind& kind, AnyCache& cache) {
        const State& s = state_;
        multiply({{layer.wq, s.q.data(), layer.q_bias},
                  {layer.wk, s.k.data(), layer.k_bias},
                  {layer.wv, s.v.data(), layer.v_bias}},
                 s.h.data(), tokens_, executor_, arithmetic_);
        if (layer.q_norm != nullptr) {
            norm(s.q.data(), layer.q_norm, s.q.data(), tokens_ * config_.heads, config_.head_dim);
            norm(s.k.data(), layer.k_norm, s.k.data(), tokens_ * config_.kv_heads, config_.head_dim);
        }
        if (kind.rotated_query_factor != 1) multiply_rotated_queries(kind.rotated_query_factor);
        using View = freqkv::KVView<float>;
        const View q = View::token_major(s.q.data(), config_.heads, tokens_, config_.head_dim);
        const View k = View::token_major(s.k.data(), config_.kv_heads, tokens_, config_.head_dim);
        const View v = View::token_major(s.v.data(), config_.kv_heads, tokens_, config_.head_dim);
        const View out = View::token_major(s.a.data(), config_.heads, tokens_, config_.head_dim);
        kind.attention.forward(q, k, v, cache, out, SerialIf<E>{executor_, attention_is_small(cache)});
        multiply({{layer.wo, s.y.data(), layer.o_bias}}, s.a.data(), tokens_, executor_, arithmetic_);
    }

    void multiply_rotated_queries(float factor) {
        const Index rows = tokens_ * config_.heads;
        for (Index r = 0; r < rows; ++r) {
            Eigen::Map<Eigen::ArrayXf>(state_.q.data() + r * config_.head_dim, config_.rotation()) *= factor;
        }
    }

    // y = feed_forward(h)
    void feed_forward(const LayerWeights& layer) {
        const State& s = state_;
        multiply({{layer.gate, s.gate.data(), layer.gate_bias}, {layer.up, s.up.data(), layer.up_bias}}, s.h.data(),
                 tokens_, executor_, arithmetic_);
        const Index hidden = config_.hidden;
        const auto gated = config_.activation == Activation::silu ? swiglu : geglu;
        const auto activate = [&](Index t, Index) {
            gated(s.gate.data() + t * hidden, s.up.data() + t * hidden, hidden);
        };
        share_exponentials(executor_, tokens_, hidden, activate);
        multiply({{layer.down, s.y.data(), layer.down_bias}}, s.gate.data(), tokens_, executor_, arithmetic_);
    }

    const Checkpoint& checkpoint_;
    Config config_;
    E executor_;
    Arithmetic arithmetic_;
    freqkv::Workspace workspace_;
    std::vector<Kind> kinds_;               // that the model has, up to four
    std::vector<Layer> layers_;             // [layers]
    std::vector<Cache> caches_;             // of layers that are not local
    std::vector<LocalCache> local_caches_;  // of the others
    State state_;
    freqkv::AlignedBuffer<float> logits_;
    Index tokens_ = 0;  // of the latest forward()
};

}  // namespace llama
