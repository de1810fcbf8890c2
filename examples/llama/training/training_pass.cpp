// SPDX-License-Identifier: MIT
#include "llama/training/training_pass.hpp"

#include <algorithm>
#include <cmath>

#include "freqkv/rope.hpp"
#include "llama/model/blocks.hpp"
#include "llama/model/loss.hpp"
#include "llama/model/rope_scaling.hpp"
#include "llama/training/blocks_backward.hpp"

namespace llama {

TrainingPass::TrainingPass(const TrainableLlama& model, const CacheSizes& sizes, const MakeAttention& make_attention,
                           Index length, bool recompute)
    : model_(model), config_(model.config()), length_(length) {
    const freqkv::Rope<float> rope(rope_options(config_, sizes.expected_positions()), sizes.capacity);
    freqkv::CacheOptions options;
    options.kv_heads = config_.kv_heads;
    options.query_heads = config_.heads;
    options.key_dim = config_.head_dim;
    options.capacity = sizes.capacity;
    options.sinks = sizes.sinks;
    options.recent = sizes.recent;
    const Index kept = recompute ? 1 : config_.layers;  // no policy here makes a difference between layers
    for (options.layer = 0; options.layer < kept; ++options.layer) {
        kept_.emplace_back(config_, length, make_attention(options, rope, score_scale(config_), workspace_));
    }
    for (Index l = 0; l < config_.layers; ++l) inputs_.push_back(buffer(config_.dim));
    x_ = buffer(config_.dim);
    h_ = buffer(config_.dim);
    y_ = buffer(config_.dim);
    d_x_ = buffer(config_.dim);
    d_h_ = buffer(config_.dim);
    wide_ = buffer(config_.hidden);
    d_gate_ = buffer(config_.hidden);
    d_up_ = buffer(config_.hidden);
    d_a_ = buffer(config_.query_dim());
    d_q_ = buffer(config_.query_dim());
    d_k_ = buffer(config_.kv_dim());
    d_v_ = buffer(config_.kv_dim());
    // For each piece all of the classifier is read twice, and its gradient once more: pieces must not be small.
    logit_rows_ = std::clamp<Index>((Index{1} << 23) / config_.vocabulary, 8, 128);
    logits_ = freqkv::AlignedBuffer<float>(freqkv::checked_product("logits", logit_rows_, config_.vocabulary));
}

double TrainingPass::run(const Example& example, float weight, std::span<float> gradient) {
    gradient_ = gradient.data();
    start(example);
    const double loss = classify(example, weight);
    for (std::size_t l = inputs_.size(); l-- > 0;) backward(l);
    embed_backward(example);
    return loss;
}

double TrainingPass::loss(const Example& example) {
    start(example);
    norm(x_, model_.checkpoint().final_norm);
    double loss = 0;
    for (Index first = 0; first < tokens_; first += logit_rows_) {
        const Index rows = std::min(logit_rows_, tokens_ - first);
        compute_logits(first, rows);
        for (Index r = std::max<Index>(0, example.first_target - first - 1); r < rows; ++r) {
            loss += negative_log_likelihood(logit_row(r), target(example, first + r));
        }
    }
    return loss;
}

Index TrainingPass::bytes() const {
    Index bytes = workspace_.bytes() + logits_.bytes();
    for (const auto* b : {&x_, &h_, &y_, &d_x_, &d_h_, &wide_, &d_gate_, &d_up_, &d_a_, &d_q_, &d_k_, &d_v_}) {
        bytes += b->bytes();
    }
    for (const Kept& kept : kept_) bytes += kept.bytes();
    for (const Buffer& input : inputs_) bytes += input.bytes();
    return bytes;
}

void TrainingPass::start(const Example& example) {
    tokens_ = static_cast<Index>(example.tokens.size()) - 1;
    freqkv::require(tokens_ >= 1 && tokens_ <= length_, "targets of a text", tokens_,
                    "must be at least 1 and at most the pass's length");
    for (Index t = 0; t < tokens_; ++t) {
        const float* const row = embedding_row(example, t);
        std::copy_n(row, config_.dim, x_.data() + t * config_.dim);
    }
    for (std::size_t l = 0; l < inputs_.size(); ++l) forward(l);
}

const float* TrainingPass::embedding_row(const Example& example, Index t) const {
    const Token token = example.tokens[static_cast<std::size_t>(t)];
    return reinterpret_cast<const float*>(model_.checkpoint().embedding.row(token));
}

void TrainingPass::embed_backward(const Example& example) {
    if (model_.position(model_.checkpoint().embedding.data) == TrainableLlama::frozen) return;
    for (Index t = 0; t < tokens_; ++t) {
        float* const row = gradient_ + model_.position(embedding_row(example, t));
        Eigen::Map<Eigen::ArrayXf>(row, config_.dim) +=
            Eigen::Map<const Eigen::ArrayXf>(d_x_.data() + t * config_.dim, config_.dim);
    }
}

void TrainingPass::norm(const Buffer& x, const float* weight) {
    for (Index t = 0; t < tokens_; ++t) {
        rms_norm(x.data() + t * config_.dim, weight, h_.data() + t * config_.dim, config_.dim, epsilon());
    }
}

void TrainingPass::norm_backward(const Buffer& x, const float* weight) {
    const Index place = model_.position(weight);
    float* const d_weight = place == TrainableLlama::frozen ? nullptr : gradient_ + place;
    for (Index t = 0; t < tokens_; ++t) {
        const Index row = t * config_.dim;
        rms_norm_backward(x.data() + row, weight, d_h_.data() + row, d_x_.data() + row, d_weight, config_.dim,
                          epsilon());
    }
}

void TrainingPass::project(const Weights& weights, const Buffer& x, const Buffer& y, const float* bias) const {
    Map out = map(y, weights.rows);
    out.noalias() = map(x, weights.columns) * map(weights).transpose();
    if (bias != nullptr) out.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias, weights.rows);
}

void TrainingPass::project_backward(const Weights& weights, const LoraPlaces* lora, const Buffer& x, const Buffer& d_y,
                                    const Buffer& d_x, bool add, const float* bias) {
    const Map in = map(x, weights.columns);
    const Map d_out = map(d_y, weights.rows);
    Map d_in = map(d_x, weights.columns);
    if (add) {
        d_in.noalias() += d_out * map(weights);
    } else {
        d_in.noalias() = d_out * map(weights);
    }
    if (const Index place = model_.position(weights.data); place != TrainableLlama::frozen) {
        Map(gradient_ + place, weights.rows, weights.columns).noalias() += d_out.transpose() * in;
    }
    if (lora != nullptr) {
        const Index rank = model_.lora()->rank;
        const auto scale = static_cast<float>(model_.lora()->scale());
        const float* const numbers = model_.trained().data();
        low_rank_.noalias() = scale * in * ConstMap(numbers + lora->a, rank, weights.columns).transpose();
        Map(gradient_ + lora->b, weights.rows, rank).noalias() += d_out.transpose() * low_rank_;
        low_rank_.noalias() = scale * d_out * ConstMap(numbers + lora->b, weights.rows, rank);
        Map(gradient_ + lora->a, rank, weights.columns).noalias() += low_rank_.transpose() * in;
    }
    if (bias != nullptr && model_.position(bias) != TrainableLlama::frozen) {
        Eigen::Map<Eigen::RowVectorXf>(gradient_ + model_.position(bias), weights.rows) += d_out.colwise().sum();
    }
}

void TrainingPass::forward(std::size_t l) {
    const Index dim = config_.dim;
    map(inputs_[l], dim) = map(x_, dim);
    activate(l);
    swiglu_forward(activations(l));
    project(model_.checkpoint().layers[l].down, wide_, y_);
    map(x_, dim) = map(activations(l).middle, dim) + map(y_, dim);
}

void TrainingPass::activate(std::size_t l) {
    const LayerWeights& layer = model_.checkpoint().layers[l];
    Kept& kept = activations(l);
    const Index dim = config_.dim;
    norm(inputs_[l], layer.attention_norm);
    project(layer.wq, h_, kept.q, layer.q_bias);
    project(layer.wk, h_, kept.k, layer.k_bias);
    project(layer.wv, h_, kept.v, layer.v_bias);
    kept.attention->forward(heads(kept.q, config_.heads), heads(kept.k, config_.kv_heads),
                            heads(kept.v, config_.kv_heads), heads(kept.a, config_.heads));
    project(layer.wo, kept.a, y_);
    map(kept.middle, dim) = map(inputs_[l], dim) + map(y_, dim);
    norm(kept.middle, layer.ffn_norm);
    project(layer.gate, h_, kept.gate);
    project(layer.up, h_, kept.up);
}

void TrainingPass::swiglu_forward(const Kept& kept) {
    const Index n = tokens_ * config_.hidden;
    std::copy_n(kept.gate.data(), n, wide_.data());
    swiglu(wide_.data(), kept.up.data(), n);
}

void TrainingPass::backward(std::size_t l) {
    const LayerWeights& layer = model_.checkpoint().layers[l];
    const auto lora = [&](std::optional<LoraPlaces> LoraLayer::* projection) -> const LoraPlaces* {
        if (model_.lora() == nullptr) return nullptr;
        const std::optional<LoraPlaces>& places = model_.lora_layers()[l].*projection;
        return places ? &*places : nullptr;
    };
    if (kept_.size() < inputs_.size() && l + 1 < inputs_.size()) activate(l);  // the last layer's are there
    Kept& kept = activations(l);
    swiglu_forward(kept);
    project_backward(layer.down, lora(&LoraLayer::down), wide_, d_x_, d_up_, false);
    swiglu_backward(kept.gate.data(), kept.up.data(), d_up_.data(), d_gate_.data(), d_up_.data(),
                    tokens_ * config_.hidden);
    norm(kept.middle, layer.ffn_norm);
    project_backward(layer.gate, lora(&LoraLayer::gate), h_, d_gate_, d_h_, false);
    project_backward(layer.up, lora(&LoraLayer::up), h_, d_up_, d_h_, true);
    norm_backward(kept.middle, layer.ffn_norm);

    project_backward(layer.wo, lora(&LoraLayer::o), kept.a, d_x_, d_a_, false);
    const Index heads_count = config_.heads;
    const Index kv_heads = config_.kv_heads;
    kept.attention->backward(heads(kept.q, heads_count), heads(kept.k, kv_heads), heads(kept.v, kv_heads),
                             heads(kept.a, heads_count), heads(d_a_, heads_count), heads(d_q_, heads_count),
                             heads(d_k_, kv_heads), heads(d_v_, kv_heads));
    norm(inputs_[l], layer.attention_norm);
    project_backward(layer.wq, lora(&LoraLayer::q), h_, d_q_, d_h_, false, layer.q_bias);
    project_backward(layer.wk, lora(&LoraLayer::k), h_, d_k_, d_h_, true, layer.k_bias);
    project_backward(layer.wv, lora(&LoraLayer::v), h_, d_v_, d_h_, true, layer.v_bias);
    norm_backward(inputs_[l], layer.attention_norm);
}

void TrainingPass::compute_logits(Index first, Index rows) {
    const ConstMap in(h_.data() + first * config_.dim, rows, config_.dim);
    Map(logits_.data(), rows, config_.vocabulary).noalias() = in * map(model_.checkpoint().classifier).transpose();
}

double TrainingPass::classify(const Example& example, float weight) {
    const Weights& classifier = model_.checkpoint().classifier;
    const Index place = model_.position(classifier.data);
    norm(x_, model_.checkpoint().final_norm);
    double loss = 0;
    for (Index first = 0; first < tokens_; first += logit_rows_) {
        const Index rows = std::min(logit_rows_, tokens_ - first);
        compute_logits(first, rows);
        for (Index r = 0; r < rows; ++r) {
            const std::span<float> row = logit_row(r);
            if (first + r + 1 >= example.first_target) {
                loss +=
                    cross_entropy_backward(row.data(), config_.vocabulary, Index{target(example, first + r)}, weight);
            } else {
                std::fill(row.begin(), row.end(), 0.0f);
            }
        }
        const ConstMap in(h_.data() + first * config_.dim, rows, config_.dim);
        const ConstMap logits(logits_.data(), rows, config_.vocabulary);
        Map(d_h_.data() + first * config_.dim, rows, config_.dim).noalias() = logits * map(classifier);
        if (place != TrainableLlama::frozen) {
            Map(gradient_ + place, config_.vocabulary, config_.dim).noalias() += logits.transpose() * in;
        }
    }
    map(d_x_, config_.dim).setZero();
    norm_backward(x_, model_.checkpoint().final_norm);
    return loss;
}

}  // namespace llama
