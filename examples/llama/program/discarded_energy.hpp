// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "llama/model/cache_settings.hpp"
#include "llama/model/checkpoint.hpp"

namespace llama {

/// What compressions discard of each head while the tokens are read, `chunk` at a time: the discarded part of the
/// energy of its keys plus that of its values, 0 to 2. [layers that see the whole text, kv_heads]; empty if it was
/// interrupted.
std::vector<double> measure_discarded_energy(const Checkpoint& checkpoint, const CacheSettings& settings,
                                             std::span<const Token> tokens, Index chunk, int threads);

}  // namespace llama
