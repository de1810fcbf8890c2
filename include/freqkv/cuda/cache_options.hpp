// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "freqkv/cache_options.hpp"
#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/stored_element.hpp"

namespace freqkv::cuda {

/// The shape of one layer's cache for a batch of sequences.
struct CacheOptions {
    Index sequences = 1;    ///< >= 1
    Index kv_heads = 0;     ///< 1 to 2^20
    Index query_heads = 0;  ///< a multiple of kv_heads (grouped queries); 0: kv_heads
    Index key_dim = 0;      ///< 1 to 2^20
    Index value_dim = 0;    ///< 1 to 2^20; 0: key_dim
    Index capacity = 0;     ///< entries of each sequence
    Index sinks = 4;        ///< first entries, kept as they are; without meaning under Full
    Index recent = 0;       ///< latest entries, kept as they are at a compression; without meaning under Full
    Index exact = 32;  ///< of a Packed type: so many of the latest entries at least, and the sinks, stay in 16 bits
};

/// Keys or values of one sequence of a packed cache in host memory, as freqkv::SinkedKVCache holds them: transformed;
/// of `size` entries of each head the first ones, the packed ones and the latest.
template <int Bits>
struct PackedRows {
    std::vector<Half> first;           ///< [kv_heads, first, dim]
    std::vector<Packed<Bits>> packed;  ///< [kv_heads, packed, row_length<Packed<Bits>>(dim)]
    std::vector<Half> latest;          ///< [kv_heads, latest, dim]
};

namespace detail {

template <class T>
struct SavedRowsOf {
    using type = std::vector<T>;
};
template <int Bits>
struct SavedRowsOf<Packed<Bits>> {
    using type = PackedRows<Bits>;
};

}  // namespace detail

/// One sequence's entries and counts in host memory, as the cache stores them.
template <class T>
struct SavedSequence {
    typename detail::SavedRowsOf<T>::type keys;    ///< [kv_heads, size, key_dim]
    typename detail::SavedRowsOf<T>::type values;  ///< [kv_heads, size, value_dim]
    /// The latest queries as a policy reads them, [kv_heads, query_window, query_heads / kv_heads, key_dim]; of others
    /// none.
    std::vector<float> queries;
    Index size = 0;
    Index tokens_seen = 0;
    Index compressions = 0;
    Index compressed_at = 0;
    Index packed = 0;     ///< entries of each head that are packed
    Index packed_at = 0;  ///< tokens_seen when the latest of them were
};

namespace detail {

/// `options` with the defaults filled in. Throws Error for what is outside its range or beyond what launches and copies
/// can count.
inline CacheOptions completed(CacheOptions options, Index element_bytes, bool grows) {
    constexpr Index most = (Index{1} << 31) - 1;
    require(options.sequences >= 1 && options.sequences <= most, "sequences", options.sequences,
            "must be 1 to 2^31 - 1");
    require(options.kv_heads <= Index{1} << 20, "kv_heads", options.kv_heads, "must be at most 2^20");
    const freqkv::CacheOptions of_one = freqkv::detail::completed({.kv_heads = options.kv_heads,
                                                                   .query_heads = options.query_heads,
                                                                   .key_dim = options.key_dim,
                                                                   .value_dim = options.value_dim,
                                                                   .sinks = options.sinks,
                                                                   .recent = options.recent,
                                                                   .exact = options.exact});
    options.query_heads = of_one.query_heads;
    options.value_dim = of_one.value_dim;
    if (grows) {
        require(options.capacity >= 1, "capacity", options.capacity, "must be at least 1");
    } else {
        require(options.capacity > options.sinks && options.capacity - options.sinks - options.recent >= 2, "capacity",
                options.capacity, "must be at least sinks + recent + 2");
    }
    require(options.capacity <= most, "capacity", options.capacity, "must be below 2^31");
    for (const auto& [name, dim] : {std::pair{"key_dim", options.key_dim}, {"value_dim", options.value_dim}}) {
        require(dim <= Index{1} << 20, name, dim, "must be at most 2^20");
        // A launch has a block for each head and some of its columns.
        if (options.kv_heads > most / dim) {
            refuse("kv_heads", std::to_string(options.kv_heads), std::string("times ") + name + " must be below 2^31");
        }
        // The runtime copies rows of at most that many bytes.
        if (options.capacity > most / (dim * element_bytes)) {
            refuse("capacity", std::to_string(options.capacity),
                   "must be at most " + std::to_string(most / (dim * element_bytes)) + ", for a head of such " + name +
                       " may take 2 GiB");
        }
    }
    return options;
}

}  // namespace detail

}  // namespace freqkv::cuda
