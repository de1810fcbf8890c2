// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/rope_options.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// The rotary embedding that a checkpoint asks for in layers of a kind. Its scaling becomes a divisor of each
/// frequency. Some scalings go by the number of positions, which is that of the cache
/// (CacheSizes::expected_positions()); 0: few.
freqkv::RopeOptions rope_options(const Config& config, Index positions = 0, LayerKind kind = {});

/// The factor of the scores of queries and keys: 1 / sqrt(query_scalar or head_dim), with the scaling's magnitude
/// squared (Peng et al. 2023, equation 15; both queries and keys have it) if all dimensions turn.
double score_scale(const Config& config, LayerKind kind = {});

/// The factor of the dimensions of a query that turn: the magnitude squared if some do not, 1 otherwise.
double rotated_query_factor(const Config& config, LayerKind kind = {});

}  // namespace llama
