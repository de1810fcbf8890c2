// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv {

/// A schedule against forgetting: tiers of blocks of entries, oldest first. A full cache compresses the oldest two
/// blocks that are still as they came to one of tier 1; two blocks of a tier become one of the next, those of the last
/// tier one of the same. So a tier is compressed half as often as the one before it, as the bits of a counter, and what
/// a token has been through grows with the logarithm of its age, up to the last tier.
///
/// A compression takes two blocks as they came, and two of each tier that has them; it frees one for each pair, on the
/// average two in all.
struct BinaryTiers {
    Index block = 0;  ///< entries of a block; 0: as many as fit
    Index tiers = 6;  ///< 1 to 31

    /// O(tiers). Throws Error for other tiers, and if there is no room for two blocks of each tier and two as they
    /// came.
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        require(tiers >= 1 && tiers < SpanList::max_size, "tiers", tiers, "must be within 1 and 31");
        require(block >= 0, "block", block, "must not be negative");
        const Index length = layout.entries - layout.sinks - layout.recent;
        const Index most = length / (2 * (tiers + 1));
        require(most >= 1 && block <= most, "capacity", layout.entries,
                "must have room for 2 * (tiers + 1) blocks between sinks and recent part");
        const Index entries = block > 0 ? block : most;
        SpanList spans;
        Index begin = layout.sinks;
        for (Index tier = tiers; tier >= 1; --tier) {
            const Index blocks = blocks_of(tier, compressions);
            if (blocks == 2) spans.push_back({begin, 2 * entries, entries});
            begin += blocks * entries;
        }
        spans.push_back({begin, 2 * entries, entries});
        return spans;
    }

private:
    // Pairs of a tier's blocks that have become one before compression c. A pair is complete with every second block
    // that arrives, and becomes one at the compression after that; tier 1 gets a block from each compression.
    static Index merges(Index tier, Index c) { return c < tier ? 0 : (c - tier) >> tier; }

    // Blocks that a tier has got before compression c.
    static Index arrivals(Index tier, Index c) { return tier == 1 ? c : merges(tier - 1, c); }

    // Blocks that it has at compression c.
    Index blocks_of(Index tier, Index c) const {
        const Index arrived = arrivals(tier, c);
        if (tier < tiers) return arrived - 2 * merges(tier, c);
        if (arrived < 2) return arrived;
        return c > 0 && arrivals(tier, c - 1) < arrived ? 2 : 1;  // the last keeps what its pairs become
    }
};

static_assert(Schedule<BinaryTiers>);

/// The low-pass in tiers: an old token is not halved at each compression again, but a number of times that grows with
/// the logarithm of its age.
template <class Backend = dct::Simd>
struct TieredLowPass {
    BinaryTiers schedule;
    FrequencyCodec<Backend> codec;

    explicit TieredLowPass(Index tiers = 6) : schedule{0, tiers} {}
};

}  // namespace freqkv
