// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

namespace freqkv::cuda::detail {

/// Which rows a task is about where they are not one behind another, for each head by itself: its row i is rows[i];
/// without a table it is row i.
struct RowMap {
    const std::int32_t* rows = nullptr;  ///< [heads], head_stride apart
    Index head_stride = 0;

    /// The same of head `head` alone, which the call below is for.
    FREQKV_INLINE RowMap of_head(int head) const { return {rows == nullptr ? nullptr : rows + head * head_stride, 0}; }
    /// Of what stands behind the first `count` of the table.
    FREQKV_INLINE RowMap behind(int count) const { return {rows == nullptr ? nullptr : rows + count, head_stride}; }
    FREQKV_INLINE int operator()(int i) const { return rows == nullptr ? i : rows[i]; }
};

}  // namespace freqkv::cuda::detail
