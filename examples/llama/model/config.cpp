// SPDX-License-Identifier: MIT
#include "llama/model/config.hpp"

#include <cmath>
#include <string>

#include "freqkv/error.hpp"
#include "llama/model/checkpoint.hpp"

namespace llama {

void check_config(const Config& config, const std::string& path) {
    const auto check = [&](const char* name, Index value, Index least, Index most) {
        if (value < least || value > most) {
            throw FileError(path, std::string(name) + " is " + std::to_string(value) + ", must be " +
                                      std::to_string(least) + " to " + std::to_string(most));
        }
    };
    const auto check_positive = [&](const char* name, double value) {
        if (!(value > 0 && std::isfinite(value))) {
            throw FileError(path, std::string(name) + " is " + std::to_string(value) + ", must be positive and finite");
        }
    };
    const auto check_not_negative = [&](const char* name, double value) {
        if (!(value >= 0 && std::isfinite(value))) {
            throw FileError(path, std::string(name) + " is " + std::to_string(value) + ", must not be negative");
        }
    };
    check("the width", config.dim, 1, Index{1} << 20);
    check("the feed-forward width", config.hidden, 1, Index{1} << 22);
    check("the number of layers", config.layers, 1, Index{1} << 14);
    check("the number of heads", config.heads, 1, Index{1} << 14);
    check("the number of key and value heads", config.kv_heads, 1, config.heads);
    check("the size of a head", config.head_dim, 2, Index{1} << 14);
    check("the size of the vocabulary", config.vocabulary, 1, Index{1} << 24);
    check("the trained context", config.context, 1, Index{1} << 24);
    check("the sliding window", config.sliding_window, 0, Index{1} << 24);
    if (config.head_dim % 2 != 0) {
        throw FileError(path, "the size of a head is " + std::to_string(config.head_dim) + ", must be even");
    }
    if (config.heads % config.kv_heads != 0) {
        throw FileError(path, "there are " + std::to_string(config.kv_heads) +
                                  " key and value heads, which must divide the " + std::to_string(config.heads) +
                                  " query heads");
    }
    check_positive("the epsilon of the norms", config.norm_epsilon);
    check_positive("the base of the rotary frequencies", config.rope_base);
    const RopeScaling& scaling = config.rope_scaling;
    check_positive("the factor of the rotary scaling", scaling.factor);
    check_positive("beta_fast of the rotary scaling", scaling.beta_fast);
    check_positive("beta_slow of the rotary scaling", scaling.beta_slow);
    check_positive("low_freq_factor of the rotary scaling", scaling.low_frequency_factor);
    check_positive("high_freq_factor of the rotary scaling", scaling.high_frequency_factor);
    if (!std::isfinite(scaling.attention_factor) || scaling.attention_factor == 0) {
        throw FileError(path, "attention_factor of the rotary scaling is " + std::to_string(scaling.attention_factor) +
                                  ", must be finite and not 0");
    }
    using Type = RopeScaling::Type;
    if (scaling.type == Type::yarn || scaling.type == Type::llama3) {
        check("the original context of the rotary scaling", scaling.original_context, 1, Index{1} << 24);
    }
    if (scaling.type == Type::yarn && scaling.beta_fast < scaling.beta_slow) {
        throw FileError(path, "beta_fast of the rotary scaling is below beta_slow");
    }
    if (scaling.type == Type::yarn && config.rope_base <= 1) {
        throw FileError(path, "the base of the rotary frequencies is " + std::to_string(config.rope_base) +
                                  ", must be above 1 for YaRN");
    }
    if (scaling.type == Type::llama3 && scaling.low_frequency_factor >= scaling.high_frequency_factor) {
        throw FileError(path, "low_freq_factor of the rotary scaling is not below high_freq_factor");
    }
    check("the original context of the rotary scaling", scaling.original_context, 0, Index{1} << 24);
    for (const double divisor : scaling.divisors) check_positive("a factor of the rotary frequencies", divisor);
    for (const double divisor : scaling.long_divisors) check_positive("a factor of the rotary frequencies", divisor);
    check("the rotated dimensions of a head", config.rotation(), 2, config.head_dim);
    if (config.rotation() % 2 != 0) {
        throw FileError(path,
                        "the rotated dimensions of a head are " + std::to_string(config.rotation()) + ", must be even");
    }
    for (const auto* const divisors : {&scaling.divisors, &scaling.long_divisors}) {
        if (divisors->empty() || static_cast<Index>(divisors->size()) == config.rotation() / 2) continue;
        throw FileError(path, "there are " + std::to_string(divisors->size()) +
                                  " factors of the rotary frequencies, must be half the " +
                                  std::to_string(config.rotation()) + " dimensions of a head that turn");
    }
    check_positive("the scale of the embedding", config.embedding_scale);
    check_not_negative("the divisor of the scores", config.query_scalar);
    check_not_negative("the cap of the scores", config.score_cap);
    check_not_negative("the cap of the logits", config.logit_cap);
    check_not_negative("the base of the local layers' rotary frequencies", config.local_rope_base);
    const auto is_none_or_all = [&](const std::vector<bool>& layers) {
        return layers.empty() || static_cast<Index>(layers.size()) == config.layers;
    };
    if (!is_none_or_all(config.local_layers) || !is_none_or_all(config.unrotated_layers)) {
        throw FileError(path, "the kinds of layers are not as many as the layers");
    }
    if (config.count_local_layers() > 0) check("the window of local layers", config.local_window, 1, Index{1} << 24);
}

Index count_parameters(const Config& c) {
    const auto product = [](auto... counts) { return freqkv::checked_product("number of weights", counts...); };
    const Index bias = (c.attention_bias ? c.query_dim() + 2 * c.kv_dim() : 0) + (c.output_bias ? c.dim : 0) +
                       (c.feed_forward_bias ? 2 * c.hidden + c.dim : 0);
    const Index norms = (c.output_norms ? 4 : 2) * c.dim + (c.head_norms ? 2 * c.head_dim : 0);
    return product(c.shared_classifier ? 1 : 2, c.vocabulary, c.dim) +     // embedding, classifier
           product(c.layers, norms + bias) + c.dim +                       // norms and biases
           product(c.layers, c.dim, 2 * c.query_dim() + 2 * c.kv_dim()) +  // wq, wo; wk, wv
           product(c.layers, 3, c.hidden, c.dim);                          // gate, down, up
}

}  // namespace llama
