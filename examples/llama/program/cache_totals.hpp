// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include "llama/model/config.hpp"
#include "llama/model/language_model.hpp"

namespace llama {

/// What became of the text in all heads that see the whole of it.
struct CacheTotals {
    Index heads = 0;
    Index size = 0;
    Index capacity = 0;
    Index compressions = 0;  ///< of the head with the most
    bool alike = true;       ///< all have the same capacity

    explicit CacheTotals(const LanguageModel& model) {
        const Config& config = model.config();
        Index first = 0;
        for (Index l = 0; l < config.layers; ++l) {
            for (Index h = 0; h < config.kv_heads && !config.kind(l).local; ++h) {
                const CacheCounts counts = model.head_cache(l, h);
                if (heads == 0) first = counts.capacity();
                alike = alike && counts.capacity() == first;
                size += counts.size();
                capacity += counts.capacity();
                compressions = std::max(compressions, counts.compressions());
                ++heads;
            }
        }
    }
};

}  // namespace llama
