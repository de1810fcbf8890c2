// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/view.hpp"
#include "llama/cuda/activations.cuh"
#include "llama/cuda/cublas.cuh"
#include "llama/cuda/device_blocks.cuh"
#include "llama/cuda/device_weights.cuh"
#include "llama/cuda/pinned_floats.cuh"
#include "llama/cuda/step_graph.cuh"
#include "llama/model/checkpoint.hpp"
#include "llama/model/language_model.hpp"
#include "llama/model/rope_scaling.hpp"

namespace llama {

/// A Llama on a GPU with a cache that stores T (float, __half, __nv_bfloat16) under a policy P, as Llama on the host.
/// Products are cuBLAS's, in the type of the weights with sums in float; attention and the cache are the library's; the
/// residual stream, queries, keys and values are float.
///
/// What a single token needs is the same sequence of kernels every time: the second one is captured in a graph, which
/// later ones launch as a whole. Compressions happen between two launches.
template <class T, class P>
class CudaLlama final : public LanguageModel {
public:
    using Policy = P;
    using Cache = freqkv::cuda::SinkedKVCache<T, P>;

    /// The weights are shared with other models; the rest is this one's. Throws freqkv::Error if the sizes and the
    /// policy do not go together, CudaError if there is no memory.
    CudaLlama(const Config& config, std::shared_ptr<const device::DeviceWeights> weights, const CacheSizes& sizes,
              const P& policy, Index chunk = 1)
        : config_(config),
          weights_(std::move(weights)),
          cublas_(stream_),
          attention_(score_scale(config)),
          activations_(config, std::max<Index>(chunk, 1)) {
        const freqkv::cuda::Rope rope(rope_options(config_, sizes.expected_positions()));
        freqkv::cuda::CacheOptions options;
        options.kv_heads = config_.kv_heads;
        options.query_heads = config_.heads;
        options.key_dim = config_.head_dim;
        options.capacity = sizes.capacity;
        options.sinks = sizes.sinks;
        options.recent = sizes.recent;
        caches_.reserve(static_cast<std::size_t>(config_.layers));
        for (Index l = 0; l < config_.layers; ++l) caches_.emplace_back(options, rope, policy);
        freqkv::cuda::check("cudaDeviceSynchronize", cudaDeviceSynchronize());
    }

    const Config& config() const override { return config_; }
    /// Of one sequence, 0, on stream().
    const Cache& device_cache(Index layer) const { return caches_[static_cast<std::size_t>(layer)]; }
    cudaStream_t stream() const { return stream_; }

    CacheCounts cache(Index layer) const override {
        const Cache& cache = device_cache(layer);
        return {cache.size(0), cache.options().capacity, cache.compressions(0)};
    }

    bool cache_grows() const override { return freqkv::GrowingPolicy<P>; }

    Index cache_bytes() const override {
        Index bytes = 0;
        for (const Cache& cache : caches_) bytes += cache.memory().entries();
        return bytes;
    }

    void clear() override {
        for (Cache& cache : caches_) cache.clear(0, stream_);
    }

    void forward(std::span<const Token> tokens) override {
        check_tokens(tokens);
        tokens_ = 0;
        if (tokens.empty()) return;
        make_room(static_cast<Index>(tokens.size()));
        tokens_ = static_cast<Index>(tokens.size());
        // From pageable memory: read when it returns.
        freqkv::cuda::check("cudaMemcpyAsync", cudaMemcpyAsync(activations_.ids.data(), tokens.data(),
                                                               tokens.size_bytes(), cudaMemcpyHostToDevice, stream_));
        if (tokens_ > 1 || !captures_) {
            run();
        } else {
            step();
        }
    }

    std::span<const float> logits(Index first, Index count) override {
        freqkv::require(first >= 0 && count >= 0 && first <= tokens_ - count, "first of the logits", first,
                        "must be, with their number, within the latest tokens");
        const Index size = freqkv::checked_product("number of logits", count, config_.vocabulary);
        if (size > host_logits_.size()) host_logits_ = device::PinnedFloats(size);
        if (tokens_ > 1) {
            if (size > logits_.size()) logits_ = freqkv::cuda::DeviceArray<float>(size);
            const std::byte* const rows =
                activations_.h.data() + first * config_.dim * format_of(weights_->output().type).bytes;
            if (count > 0) cublas_.multiply(weights_->output(), rows, count, logits_.data());
        }
        const float* const from = tokens_ > 1 ? logits_.data() : activations_.logits.data();
        freqkv::cuda::check("cudaMemcpyAsync",
                            cudaMemcpyAsync(host_logits_.data(), from, static_cast<std::size_t>(size) * sizeof(float),
                                            cudaMemcpyDeviceToHost, stream_));
        stream_.wait();
        return {host_logits_.data(), static_cast<std::size_t>(size)};
    }
    std::span<const float> logits() override { return logits(tokens_ - 1, 1); }

    /// Whether single tokens may go through a graph, which they do unless told otherwise. Results are the same.
    void use_graph(bool use) {
        graph_.reset();
        captures_ = use;
    }

private:
    void check_tokens(std::span<const Token> tokens) const {
        for (const Token token : tokens) {
            freqkv::require(token >= 0 && token < config_.vocabulary, "token", token, "must be within the vocabulary");
        }
        if constexpr (freqkv::GrowingPolicy<P>) {
            freqkv::require(static_cast<Index>(tokens.size()) <= caches_.front().room(0), "number of tokens",
                            static_cast<Index>(tokens.size()), "must be within the room of the cache");
        }
    }

    // The graph does not survive that activations move.
    void make_room(Index tokens) {
        if (tokens <= activations_.tokens) return;
        graph_.reset();
        stream_.wait();
        activations_ = {};
        try {
            activations_ = device::Activations(config_, tokens);
        } catch (const freqkv::cuda::CudaError& error) {
            if (error.status() != cudaErrorMemoryAllocation) throw;
            throw std::runtime_error("the GPU is out of memory: " + std::to_string(tokens) + " tokens at once need " +
                                     device::mebibytes(device::Activations::bytes(config_, tokens)) +
                                     "; a smaller --prefill-chunk needs less");
        }
    }

    // One token through the graph.
    void step() {
        if (!warm_) {  // everything is loaded, which it cannot be during a capture
            run();
            warm_ = true;
            return;
        }
        constexpr std::array<freqkv::cuda::SequenceTokens, 1> one{{{0, 1}}};
        constexpr std::array<Index, 1> sequences{0};
        for (Cache& cache : caches_) cache.prepare(sequences, stream_);
        if (graph_) {
            for (Cache& cache : caches_) cache.replayed(one);
        } else {
            graph_.capture(stream_, [&] { run(); });
        }
        graph_.launch(stream_);
    }

    // All kernels of a forward pass, and of the logits of a single token.
    void run() {
        const device::Activations& a = activations_;
        const device::DeviceWeights& w = *weights_;
        device::embed(w.embedding.data.data(), w.embedding.type, a.ids.data(), tokens_, config_.dim, a.x.data(),
                      stream_);
        for (std::size_t l = 0; l < caches_.size(); ++l) {
            const device::DeviceLayer& layer = w.layers[l];
            norm(layer.attention_norm, layer.qkv.type);
            attend(layer, caches_[l]);
            norm(layer.ffn_norm, layer.gate_up.type);
            cublas_.multiply(layer.gate_up, a.h.data(), tokens_, a.gate_up.data());
            device::swiglu(a.gate_up.data(), tokens_, config_.hidden, layer.down.type, a.product.data(), stream_);
            cublas_.multiply(layer.down, a.product.data(), tokens_, a.x.data(), true);
        }
        norm(w.final_norm, w.output().type);
        if (tokens_ == 1) cublas_.multiply(w.output(), a.h.data(), 1, a.logits.data());
    }

    // h = rms_norm(x)
    void norm(const freqkv::cuda::DeviceArray<float>& weight, WeightType type) {
        device::rms_norm(activations_.x.data(), weight.data(), config_.norm_epsilon, tokens_, config_.dim, type,
                         activations_.h.data(), stream_);
    }

    // x += wo attention(qkv h)
    void attend(const device::DeviceLayer& layer, Cache& cache) {
        const device::Activations& a = activations_;
        const Index width = layer.qkv.rows;
        const bool biased = layer.qkv_bias.size() > 0;
        if (biased) device::repeat_row(layer.qkv_bias.data(), tokens_, width, a.qkv.data(), stream_);
        cublas_.multiply(layer.qkv, a.h.data(), tokens_, a.qkv.data(), biased);
        const auto view = [&](float* data, Index heads, Index token_stride) {
            return freqkv::KVView<float>{data, heads, tokens_, config_.head_dim, config_.head_dim, token_stride, 1};
        };
        float* const keys = a.qkv.data() + config_.query_dim();
        const std::array<freqkv::cuda::SequenceTokens, 1> parts{{{0, tokens_}}};
        attention_.forward(view(a.qkv.data(), config_.heads, width), view(keys, config_.kv_heads, width),
                           view(keys + config_.kv_dim(), config_.kv_heads, width), cache,
                           view(a.attended.data(), config_.heads, config_.query_dim()), parts, stream_);
        const void* attended = a.attended.data();
        if (layer.wo.type != WeightType::f32) {
            device::convert(a.attended.data(), tokens_ * config_.query_dim(), layer.wo.type, a.product.data(), stream_);
            attended = a.product.data();
        }
        cublas_.multiply(layer.wo, attended, tokens_, a.x.data(), true);
    }

    Config config_;
    std::shared_ptr<const device::DeviceWeights> weights_;
    device::Stream stream_;
    device::Cublas cublas_;
    freqkv::cuda::ChunkedAttention<float> attention_;
    std::vector<Cache> caches_;  // [layers]
    device::Activations activations_;
    freqkv::cuda::DeviceArray<float> logits_;
    device::PinnedFloats host_logits_;
    device::StepGraph graph_;
    bool captures_ = true;
    bool warm_ = false;
    Index tokens_ = 0;  // of the latest forward()
};

}  // namespace llama
