// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv::detail {

/// What a cache counts of one list of entries.
struct ListCounts {
    Index size = 0;         ///< entries
    Index tokens_seen = 0;  ///< less those taken back
    Index compressions = 0;
    Index compressed_at = 0;  ///< tokens_seen at the latest compression; 0 before the first
    Index packed = 0;         ///< entries that are stored in fewer bits, where there are such
    Index packed_at = 0;      ///< tokens_seen when the latest of them were packed

    /// `tokens` further tokens, each an entry.
    void append(Index tokens) {
        size += tokens;
        tokens_seen += tokens;
    }

    /// A compression that left `entries` entries.
    void compress(Index entries) {
        size = entries;
        compressed_at = tokens_seen;
        ++compressions;
    }

    /// `entries` further ones are packed.
    void pack(Index entries) {
        packed += entries;
        packed_at = tokens_seen;
    }

    /// The fewest tokens that truncate() takes.
    Index earliest_truncation() const { return std::max(compressed_at, packed_at); }

    /// Takes back all but the first `tokens` tokens. Throws Error, without change, for those that the latest
    /// compression or packing has seen, since nobody knows the entries from before it, and for more than there are.
    void truncate(Index tokens) {
        require(tokens >= earliest_truncation() && tokens <= tokens_seen, "tokens to keep", tokens,
                "must be within the count at the latest compression and tokens_seen()");
        size -= tokens_seen - tokens;
        tokens_seen = tokens;
    }
};

}  // namespace freqkv::detail
