// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// The latest queries of each sequence on a device, un-rotated, for scores that read them: as freqkv::detail::QueryRing,
// the query of token t lies at t modulo the window, so that taking tokens back needs no change.
namespace freqkv::cuda::detail {

/// The queries of one sequence, and what it takes to rotate them.
struct QueryWindow {
    const float* data = nullptr;  ///< [kv_heads, window, group, dim]
    int window = 0;
    int group = 0;    ///< query heads of a KV head
    int tokens = 0;   ///< whose queries are here: `window`, or fewer at the beginning of a text
    int oldest = 0;   ///< where the query of the first of them lies in the window
    Columns columns;  ///< of queries and keys
    const std::uint64_t* frequencies = nullptr;  ///< null: not rotated

    FREQKV_INLINE int rows() const { return tokens * group; }
    /// The query [dim] of row `row`: of group member row % group of token row / group; token 0 is the oldest.
    FREQKV_INLINE const float* row(int head, int row) const {
        const int token = (oldest + row / group) % window;
        return data + ((Index{head} * window + token) * group + row % group) * columns.dims;
    }
};

/// The queries of tokens that come into a sequence, to its window.
template <class U>
struct QueryTask {
    EntryRows<const U> from;  ///< of all query heads
    float* to = nullptr;      ///< QueryWindow::data
    int heads = 0;            ///< of queries
    int group = 0;
    int window = 0;
    int count = 0;                        ///< tokens
    int capacity = 0;                     ///< of the list: tokens beyond are dropped, as by AppendTask
    const std::int32_t* size = nullptr;   ///< entries before
    const std::int32_t* shift = nullptr;  ///< tokens seen less entries, modulo the window
};

/// By one block for one query head. Of more tokens than the window has, the latest alone.
template <class U, ThreadBlock Block>
FREQKV_INLINE void append_queries(const QueryTask<U>& task, int head, Block block) {
    const EntryRows<const U> from = task.from.of_head(head);
    const int dims = from.columns.dims;
    const int size = *task.size;
    const int shift = *task.shift;
    const int count = task.count < task.capacity - size ? task.count : task.capacity - size;
    const int first = count > task.window ? count - task.window : 0;
    const int in_group = head % task.group;
    float* const to = task.to + Index{head / task.group} * task.window * task.group * dims;
    block.each(count - first, [&](int t) {
        const auto token = static_cast<int>((Index{size} + shift + first + t) % task.window);
        float* const at = to + (Index{token} * task.group + in_group) * dims;
        const U* const query = from.row(first + t);
        for (int d = 0; d < dims; ++d) at[d] = to_float(query[d * from.dim_stride]);
    });
}

}  // namespace freqkv::cuda::detail
