// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/detail/transform/prime_factors.hpp"
#include "freqkv/error.hpp"

namespace freqkv {

/// The largest capacity up to `limit` whose span, capacity - sinks - recent, is even and has no prime factor
/// above 5: such spans and their halves are the fast lengths of a transform. Throws Error unless sinks and
/// recent are not negative and leave at least 2 of `limit`.
///
///     CacheOptions options{.kv_heads = 8, .key_dim = 128, .capacity = fast_capacity(4096, 4)};   // 4054
inline Index fast_capacity(Index limit, Index sinks, Index recent = 0) {
    require(sinks >= 0, "sinks", sinks, "must not be negative");
    require(recent >= 0, "recent", recent, "must not be negative");
    require(limit >= 2 && sinks <= limit - 2 && recent <= limit - 2 - sinks, "limit", limit,
            "must be at least sinks + recent + 2");
    Index span = (limit - sinks - recent) / 2 * 2;
    while (!detail::has_no_prime_above_5(span)) span -= 2;
    return sinks + span + recent;
}

}  // namespace freqkv
