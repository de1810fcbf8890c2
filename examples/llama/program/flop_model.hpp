// SPDX-License-Identifier: MIT
#pragma once

#include "llama/model/cache_settings.hpp"
#include "llama/model/config.hpp"

namespace llama {

/// Floating-point operations of one forward pass over a text, by what they are for. A multiply-add is two, a
/// multiplication without an addition as well; every score of a chunk's rectangle of queries and cache entries is
/// counted, masked or not; softmax and silu are left out.
struct FlopCount {
    double projections = 0;  ///< q, k, v and o
    double feed_forward = 0;
    double classifier = 0;   ///< logits of every token
    double attention = 0;    ///< scores and weighted values
    double elementwise = 0;  ///< norms, rotation, gates
    double compression = 0;  ///< span * log2(span) for each column of K and V
    Index compressions = 0;  ///< of each layer that is not local; of the head with the most, if they differ

    double total() const { return projections + feed_forward + classifier + attention + elementwise + compression; }
};

/// The text is processed in chunks: one that fills the cache, then as many tokens as a compression makes room
/// for, each against the full cache (the paper's section 4.3; its tables 4 and 6 count this way). A selection,
/// as of the local window, costs nothing; with a growing cache all of the text is one chunk. In a local layer every
/// token counts a window.
FlopCount count_flops(const Config& config, const CacheSettings& settings, Index tokens);

}  // namespace llama
