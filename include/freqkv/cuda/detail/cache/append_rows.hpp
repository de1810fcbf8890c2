// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"

// Tokens that come into a cache: rotated where they will stand, and rounded once.
namespace freqkv::cuda::detail {

/// All rows of `from` to the end of a list, whose size is in device memory and stays as it is.
template <class U, class T>
struct AppendTask {
    EntryRows<const U> from;  ///< un-rotated
    EntryRows<T> to;
    int heads = 0;
    int count = 0;
    int capacity = 0;  ///< rows beyond are dropped: a graph that is launched once too often harms nothing else
    const std::int32_t* size = nullptr;
    const std::uint64_t* frequencies = nullptr;  ///< null: not rotated

    FREQKV_INLINE int columns() const { return to.columns.count(); }
};

/// Rows [first, first + count) of the task by one block, for some columns of one head.
template <class V, class U, class T, ThreadBlock Block>
FREQKV_INLINE void append_rows(const AppendTask<U, T>& task, int head, int first_pack, int log_packs, int first,
                               int count, Block block) {
    const EntryRows<const U> from = task.from.of_head(head);
    const EntryRows<T> to = task.to.of_head(head);
    const int size = *task.size;
    using Access = RowAccess<false, false, false>;  // two layouts and two types meet, and there is little to move
    block.each(count, log_packs, [&](Place at) {
        const int row = first + at.slot;
        if (size + row >= task.capacity) return;
        const int column = (first_pack + at.pack) * columns_of<V>;
        Complex<V> x = from.template load<Access, V>(row, column);
        if (task.frequencies != nullptr) {
            x = to.template turned<false>(x, column, task.frequencies, Index{size} + row);
        }
        to.template store<Access>(size + row, column, x);
    });
}

}  // namespace freqkv::cuda::detail
