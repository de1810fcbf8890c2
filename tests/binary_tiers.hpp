// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "freqkv/policy/binary_tiers.hpp"
#include "naive_cache.hpp"

namespace freqkv::policy_test {

// What BinaryTiers does, told by what the entries have been through, without a count: of each tier, once it has
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
