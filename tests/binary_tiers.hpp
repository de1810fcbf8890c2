// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <vector>

#include "freqkv/policy/schedule.hpp"
#include "naive_cache.hpp"

namespace freqkv::policy_test {

// 1. Tiers, newest last. A full cache compresses the oldest 2 * block tokens that are still as they were to
// one block of tier 1; two blocks of a tier become one of the next, those of the last tier one of the
// same. So a tier is compressed half as often as the one before it, as the bits of a counter, and what a
// token has been through grows with the logarithm of its age.
struct BinaryTiers {
    Index block = 2;
    Index tiers = 8;

    SpanList plan(const CacheLayout& layout, Index compressions) const {
        std::array<Index, 32> blocks{};  // of each tier, before this compression
        const auto count = static_cast<std::size_t>(tiers);
        for (Index c = 0; c < compressions; ++c) {
            Index arriving = 1;
            for (std::size_t tier = 1; tier <= count; ++tier) {
                const bool merges = blocks[tier] == 2;
                blocks[tier] += arriving - (merges ? 2 : 0) + (merges && tier == count ? 1 : 0);
                arriving = merges ? 1 : 0;
            }
        }
        SpanList spans;
        Index begin = layout.sinks;
        for (std::size_t tier = count; tier >= 1; --tier) {
            if (blocks[tier] == 2) spans.push_back({begin, 2 * block, block});
            begin += blocks[tier] * block;
        }
        spans.push_back({begin, 2 * block, block});
        return spans;
    }
};

// The same rule told by what the entries have been through, without a count: of each tier, once it has
// 2 * block entries, the oldest so many become half.
inline void compress_tiers(naive::Head& head, std::size_t sinks, std::size_t recent, std::size_t block,
                           std::size_t tiers,
                           const std::function<void(naive::Head&, std::size_t, std::size_t, std::size_t)>& compress) {
    struct Part {
        std::size_t begin, entries, tier;
    };
    std::vector<Part> parts;
    for (std::size_t i = sinks; i < head.size() - recent; ++i) {
        const std::size_t tier = std::min(static_cast<std::size_t>(head.compresses[i]), tiers);
        if (parts.empty() || parts.back().tier != tier) parts.push_back({i, 0, tier});
        ++parts.back().entries;
    }
    std::reverse(parts.begin(), parts.end());  // compressing the newest first leaves the other places alone
    for (const Part& part : parts) {
        if (part.entries >= 2 * block) compress(head, part.begin, 2 * block, block);
    }
}

}  // namespace freqkv::policy_test
