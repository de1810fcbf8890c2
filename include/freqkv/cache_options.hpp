// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/report.hpp"

namespace freqkv {

/// Where keys and queries are rotated.
enum class Positions : std::uint8_t {
    index,  ///< at the entry's index in its list, as in the paper: no position is beyond the capacity
    text    ///< at those of the text: an entry in the middle of the tokens it stands for, so that distances stay what
            ///< they were; for texts that are not longer than what the model was trained with
};

/// The shape of one layer's cache. The defaults for sinks and recent part are the paper's.
struct CacheOptions {
    Index layer = 0;        ///< for reports only
    Index kv_heads = 0;     ///< >= 1
    Index query_heads = 0;  ///< a multiple of kv_heads (grouped queries); 0: kv_heads
    Index key_dim = 0;      ///< >= 1
    Index value_dim = 0;    ///< >= 1; 0: key_dim
    Index capacity = 0;     ///< entries of each head; a growing cache takes it as a first size
    Index sinks = 4;        ///< first entries, kept as they are
    Index recent = 0;       ///< latest entries, kept as they are at a compression
    Positions positions = Positions::index;
    Index exact = 32;  ///< of a Packed type: so many of the latest entries at least, and the sinks, stay in 16 bits
    bool weighted =
        false;  ///< an entry counts in attention as often as it stands for tokens; with Positions::text only
    std::vector<Index> head_capacities{};  ///< one for each KV head instead of `capacity`; empty: all alike
    Observer observer{};
};

/// What a cache holds, in bytes. `scratch` and `tables` may be shared with other caches.
struct CacheMemory {
    Index keys = 0;
    Index values = 0;
    Index bookkeeping = 0;  ///< token ranges, the query window, attention sums, weights
    Index scratch = 0;      ///< the workspace
    Index tables = 0;       ///< rotary angles

    Index entries() const { return keys + values; }
    Index total() const { return keys + values + bookkeeping + scratch + tables; }
};

namespace detail {

// `options` with the defaults filled in; throws Error for what no policy could accept.
[[gnu::cold]] inline CacheOptions completed(CacheOptions options) {
    require(options.kv_heads >= 1, "kv_heads", options.kv_heads, "must be at least 1");
    if (options.query_heads == 0) options.query_heads = options.kv_heads;
    require(options.query_heads > 0 && options.query_heads % options.kv_heads == 0, "query_heads", options.query_heads,
            "must be a multiple of kv_heads");
    require(options.key_dim >= 1, "key_dim", options.key_dim, "must be at least 1");
    if (options.value_dim == 0) options.value_dim = options.key_dim;
    require(options.value_dim >= 1, "value_dim", options.value_dim, "must be at least 1");
    require(options.capacity >= 0, "capacity", options.capacity, "must not be negative");
    require(options.sinks >= 0, "sinks", options.sinks, "must not be negative");
    require(options.recent >= 0, "recent", options.recent, "must not be negative");
    require(options.exact >= 0 && options.exact <= Index{1} << 40, "exact", options.exact, "must be 0 to 2^40");
    const auto capacities = static_cast<Index>(options.head_capacities.size());
    require(capacities == 0 || capacities == options.kv_heads, "number of head_capacities", capacities,
            "must be 0 or kv_heads");
    if (capacities == 0) {
        options.head_capacities.assign(static_cast<std::size_t>(options.kv_heads), options.capacity);
    }
    for (const Index capacity : options.head_capacities) {
        require(capacity >= 0, "head capacity", capacity, "must not be negative");
    }
    return options;
}

}  // namespace detail

}  // namespace freqkv
