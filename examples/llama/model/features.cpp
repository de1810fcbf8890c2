// SPDX-License-Identifier: MIT
#include "llama/model/features.hpp"

#include <algorithm>

#include "llama/io/file.hpp"
#include "llama/model/rope_scaling.hpp"

namespace llama {

const char* name_of(Feature feature) {
    switch (feature) {
        case Feature::output_bias:
            return "a bias behind the attention";
        case Feature::feed_forward_bias:
            return "biases of the feed-forward block";
        case Feature::head_norms:
            return "norms of queries and keys";
        case Feature::output_norms:
            return "norms of what a block gives";
        case Feature::norm_offset:
            return "norms whose weights are offset";
        case Feature::joined_projections:
            return "joined projections";
        case Feature::gelu:
            return "GELU in the feed-forward block";
        case Feature::scaled_embedding:
            return "a scaled embedding";
        case Feature::query_scalar:
            return "scores divided by another number than the root of the size of a head";
        case Feature::score_cap:
            return "capped scores";
        case Feature::logit_cap:
            return "capped logits";
        case Feature::local_layers:
            return "layers with a window of their own";
        case Feature::unrotated_layers:
            return "layers without rotation";
        case Feature::partial_rotation:
            return "heads that turn in part";
        case Feature::partial_magnitude:
            return "a rotary scaling that multiplies a part of each head";
    }
    return nullptr;
}

bool has(const Config& config, Feature feature) {
    switch (feature) {
        case Feature::output_bias:
            return config.output_bias;
        case Feature::feed_forward_bias:
            return config.feed_forward_bias;
        case Feature::head_norms:
            return config.head_norms;
        case Feature::output_norms:
            return config.output_norms;
        case Feature::norm_offset:
            return config.norm_offset != 0;
        case Feature::joined_projections:
            return config.joined_projections;
        case Feature::gelu:
            return config.activation == Activation::gelu_tanh;
        case Feature::scaled_embedding:
            return config.embedding_scale != 1;
        case Feature::query_scalar:
            return config.query_scalar > 0 && config.query_scalar != static_cast<double>(config.head_dim);
        case Feature::score_cap:
            return config.score_cap > 0;
        case Feature::logit_cap:
            return config.logit_cap > 0;
        case Feature::local_layers:
            return config.count_local_layers() > 0;
        case Feature::unrotated_layers:
            return std::find(config.unrotated_layers.begin(), config.unrotated_layers.end(), true) !=
                   config.unrotated_layers.end();
        case Feature::partial_rotation:
            return config.rotation() != config.head_dim;
        case Feature::partial_magnitude:
            return rotated_query_factor(config) != 1;
    }
    return false;
}

void require_supported(const Config& config, const std::string& path, const char* part,
                       std::initializer_list<Feature> supported) {
    for (auto feature = Feature{}; name_of(feature) != nullptr;
         feature = static_cast<Feature>(static_cast<int>(feature) + 1)) {
        if (!has(config, feature)) continue;
        if (std::find(supported.begin(), supported.end(), feature) != supported.end()) continue;
        throw FileError(path, std::string(part) + " does not support " + name_of(feature) + ", which this model has");
    }
}

}  // namespace llama
