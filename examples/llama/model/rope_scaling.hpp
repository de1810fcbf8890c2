// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/rope_options.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// The rotary embedding that a checkpoint asks for. Its scaling becomes a divisor of each frequency, for the
/// positions of a cache never leave its capacity.
freqkv::RopeOptions rope_options(const Config& config);

/// The factor of the scores of queries and keys: 1 / sqrt(head_dim), with YaRN's magnitude squared (Peng et
/// al. 2023, equation 15; both queries and keys have it).
double score_scale(const Config& config);

}  // namespace llama
