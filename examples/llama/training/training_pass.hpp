// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <Eigen/Core>

#include "freqkv/error.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"
#include "llama/model/config.hpp"
#include "llama/training/layer_activations.hpp"
#include "llama/training/layer_attention.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_data.hpp"

namespace llama {

/// One text through the model and back, with a bounded cache: the loss, and its gradient with respect to everything
/// that is trained. Works on the calling thread; passes on different threads share the model. Memory is linear in the
/// text's length: each layer's input is kept, and its activations too, unless they are computed again on the way back,
/// with the same result; the logits exist for a few tokens at a time only.
class TrainingPass {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using Map = Eigen::Map<Matrix>;
    using ConstMap = Eigen::Map<const Matrix>;

public:
    /// The model must outlive the pass. `make_attention`: attention_under(policy). `length`: targets of the longest
    /// text. `recompute`: activations are kept of one layer at a time. Throws freqkv::Error if sizes and policy do not
    /// go together.
    TrainingPass(const TrainableLlama& model, const CacheSizes& sizes, const MakeAttention& make_attention,
                 Index length, bool recompute = false);

    TrainingPass(const TrainingPass&) = delete;  // the layers share the workspace
    TrainingPass& operator=(const TrainingPass&) = delete;

    /// Adds to `gradient` that of weight * (sum of the losses of the scored targets) with respect to the trained
    /// numbers. Returns the sum of the losses, in nats.
    double run(const Example& example, float weight, std::span<float> gradient);

    /// The same sum without gradients.
    double loss(const Example& example);

    /// Bytes of activations and of what attention keeps.
    Index bytes() const;

private:
    using Buffer = freqkv::AlignedBuffer<float>;
    using Kept = LayerActivations;

    Buffer buffer(Index width) const { return Buffer(freqkv::checked_product("activations", length_, width)); }

    Map map(const Buffer& b, Index width) const { return Map(b.data(), tokens_, width); }

    static ConstMap map(const Weights& w) {
        return ConstMap(reinterpret_cast<const float*>(w.data), w.rows, w.columns);
    }

    freqkv::KVView<float> heads(const Buffer& b, Index count) const {
        return freqkv::KVView<float>::token_major(b.data(), count, tokens_, config_.head_dim);
    }

    // All layers: x_ becomes what the last one gives.
    void start(const Example& example);

    const float* embedding_row(const Example& example, Index t) const;
    void embed_backward(const Example& example);

    // h = rms_norm(x)
    void norm(const Buffer& x, const float* weight);

    // d_x += the gradient through rms_norm(x), from d_h
    void norm_backward(const Buffer& x, const float* weight);

    float epsilon() const { return static_cast<float>(config_.norm_epsilon); }

    // y = x W^T + bias
    void project(const Weights& weights, const Buffer& x, const Buffer& y, const float* bias = nullptr) const;

    // d_x = d_y W, or added to it; and the gradients of W, of its low-rank factors, and of the bias.
    void project_backward(const Weights& weights, const LoraPlaces* lora, const Buffer& x, const Buffer& d_y,
                          const Buffer& d_x, bool add, const float* bias = nullptr);

    // From x_, what the layer takes, to what it gives.
    void forward(std::size_t l);

    // What the backward pass needs of it, from the layer's input.
    void activate(std::size_t l);

    Kept& activations(std::size_t l) { return kept_[kept_.size() == 1 ? 0 : l]; }

    // wide = silu(gate) * up
    void swiglu_forward(const Kept& kept);

    // From the gradient d_x of what the layer gives to that of what it took.
    void backward(std::size_t l);

    // logits [rows, vocabulary] behind tokens [first, first + rows)
    void compute_logits(Index first, Index rows);

    std::span<float> logit_row(Index r) const {
        return {logits_.data() + r * config_.vocabulary, static_cast<std::size_t>(config_.vocabulary)};
    }

    static Token target(const Example& example, Index t) { return example.tokens[static_cast<std::size_t>(t) + 1]; }

    // The losses, and d_x, their gradient with respect to the residual stream behind the last layer.
    double classify(const Example& example, float weight);

    const TrainableLlama& model_;
    Config config_;
    Index length_;
    Index tokens_ = 0;
    float* gradient_ = nullptr;
    freqkv::Workspace workspace_;                               // of all layers' attention
    std::vector<Buffer> inputs_;                                // [layers][tokens, dim]: the stream before each
    std::vector<Kept> kept_;                                    // [layers], or one for all
    Buffer x_;                                                  // [tokens, dim]: the residual stream
    Buffer h_;                                                  // [tokens, dim]: normalised
    Buffer y_;                                                  // [tokens, dim]: what a block adds
    Buffer wide_;                                               // [tokens, hidden]: activated
    Buffer d_x_, d_h_, d_gate_, d_up_, d_a_, d_q_, d_k_, d_v_;  // gradients of the above
    Index logit_rows_ = 0;
    Buffer logits_;    // [logit_rows, vocabulary]
    Matrix low_rank_;  // [tokens, rank]
};

}  // namespace llama
