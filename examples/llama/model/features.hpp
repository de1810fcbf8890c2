// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "llama/model/config.hpp"

namespace llama {

/// What a model may have beyond the arithmetic of LLaMA-2. The forward pass on the host (llama.hpp) does all of it;
/// parts of the program that do not say which they do.
enum class Feature : std::uint8_t {
    output_bias,
    feed_forward_bias,
    head_norms,
    output_norms,
    norm_offset,
    joined_projections,
    gelu,
    scaled_embedding,
    query_scalar,
    score_cap,
    logit_cap,
    local_layers,
    unrotated_layers,
    partial_rotation,
    partial_magnitude,  ///< a scaling multiplies the dimensions that turn, and others do not
};

/// For people: "norms of queries and keys".
const char* name_of(Feature feature);

bool has(const Config& config, Feature feature);

/// Throws FileError if the model needs what is not among `supported`: "<path>: <part> does not support ...".
void require_supported(const Config& config, const std::string& path, const char* part,
                       std::initializer_list<Feature> supported);

}  // namespace llama
