// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"

namespace freqkv::cuda {

/// Keys or values of one sequence and layer, [heads, tokens, head_dim], in pages of a pool that sequences share: token
/// t is in page block_table[t / page_tokens], at its place t % page_tokens. Strides are in elements. Trivially
/// copyable; all memory is on a device.
///
/// [pages, page_tokens, heads, head_dim]: page_stride = page_tokens * heads * head_dim, token_stride = heads *
/// head_dim, head_stride = head_dim. [pages, heads, page_tokens, head_dim]: page_stride the same, head_stride =
/// page_tokens * head_dim, token_stride = head_dim.
template <class T>
struct PagedKVView {
    T* data = nullptr;                          ///< page 0 of the pool
    const std::int32_t* block_table = nullptr;  ///< [table_pages]; pages of the pool, in the order of tokens
    Index table_pages = 0;
    Index page_tokens = 0;  ///< a power of two, such as 16, 32 or 64
    Index heads = 0;
    Index tokens = 0;  ///< entries in use, at most table_pages * page_tokens
    Index head_dim = 0;
    Index page_stride = 0;
    Index head_stride = 0;
    Index token_stride = 0;
    Index dim_stride = 1;
};

}  // namespace freqkv::cuda
