// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"

namespace freqkv::cuda {

/// One sequence in one layer of an engine's cache. View is KVView<T> or PagedKVView<T>. Pages must belong to this list
/// alone: a prefix that sequences share has to be copied first, for compression writes where it reads.
template <class View>
struct ForeignList {
    View keys;                         ///< [kv_heads, tokens, key_dim]
    View values;                       ///< [kv_heads, tokens, value_dim]
    const Index* positions = nullptr;  ///< [tokens], on the device: where the stored keys are rotated; null: 0, 1, 2, …
    Index compressions = 0;            ///< of this list so far, for schedules that depend on it
};

/// One call of InPlaceCompressor::compress().
struct InPlaceOptions {
    Index sinks = 4;   ///< first entries of each list, kept as they are
    Index recent = 0;  ///< latest entries of each list, kept as they are
};

/// What became of one list.
struct InPlaceResult {
    Index length = 0;           ///< entries left; the next token's position
    Index first_free_page = 0;  ///< of a paged list: entries of its block table from here on ...
    Index free_pages = 0;       ///< ... that many of them hold nothing any more

    friend bool operator==(const InPlaceResult&, const InPlaceResult&) = default;
};

}  // namespace freqkv::cuda
