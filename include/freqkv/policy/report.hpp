// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/energy.hpp"

namespace freqkv {

/// Tokens [begin, end) of the text.
struct TokenRange {
    Index begin = 0;
    Index end = 0;

    friend bool operator==(const TokenRange&, const TokenRange&) = default;
};

/// One span of one head was compressed.
struct CompressionReport {
    Index layer = 0;
    Index head = 0;         ///< KV head
    Index compression = 0;  ///< of this head: 0 for its first
    Index begin = 0;        ///< the span's first entry, before the compression
    Index length = 0;       ///< its entries before
    Index kept = 0;         ///< its entries after
    Energy keys;            ///< of the un-rotated keys: sum of squares, and the part of it that was discarded
    Energy values;
};

/// Called for every compressed span, in order of heads, after the compression is complete and from the
/// thread that fed the cache. A plain function pointer, so that caches with and without one have the
/// same type; without one, no energy is computed.
struct Observer {
    void (*call)(void* context, const CompressionReport& report) = nullptr;
    void* context = nullptr;
};

}  // namespace freqkv
