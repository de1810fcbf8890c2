// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/detail/snapshot/streams.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv::detail {

inline void require_between(Index value, Index least, Index most, const char* what) {
    require(value >= least && value <= most, what, value, "must fit the cache and the snapshot's other numbers");
}

// What a snapshot says of one head before its entries.
struct SnapshotHead {
    ListCounts counts;
    SpanList compressed;
    const std::byte* entries = nullptr;  // of one that was read

    template <class Sink>
    void write(SnapshotWriter<Sink>& to) const {
        for (const Index count : {counts.size, counts.tokens_seen, counts.compressions, counts.compressed_at,
                                  counts.packed, counts.packed_at, compressed.size()}) {
            to.write(count);
        }
        to.write(compressed.begin(), compressed.size());
    }

    // Of a list that can have `most` entries.
    static SnapshotHead read(SnapshotReader& from, Index most) {
        constexpr Index most_tokens = Index{1} << 48;
        SnapshotHead head;
        const auto take = [&](Index most_here, const char* what) {
            const auto number = from.take_number<Index>();
            require_between(number, 0, most_here, what);
            return number;
        };
        ListCounts& counts = head.counts;
        counts.size = take(most, "entries of the snapshot");
        counts.tokens_seen = take(most_tokens, "tokens of the snapshot");
        require_between(counts.size, 0, counts.tokens_seen, "entries of the snapshot");
        counts.compressions = take(counts.tokens_seen, "compressions of the snapshot");
        counts.compressed_at = take(counts.tokens_seen, "latest compression of the snapshot");
        counts.packed = take(counts.size, "packed entries of the snapshot");
        counts.packed_at = take(counts.tokens_seen, "latest packing of the snapshot");
        const Index spans = take(SpanList::max_size, "spans of the snapshot");
        for (Index s = 0; s < spans; ++s) {
            Span span;
            span.begin = take(most, "begin of a span of the snapshot");
            span.length = take(most - span.begin, "length of a span of the snapshot");
            span.keep = take(span.length, "keep of a span of the snapshot");
            head.compressed.push_back(span);
        }
        return head;
    }
};

}  // namespace freqkv::detail
