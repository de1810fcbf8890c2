// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/detail/device/row_map.hpp"

// The last step of a compression: entries behind a span close up, and stored keys turn by the change of their position.
namespace freqkv::cuda::detail {

/// Rows [from, from + count) to [to, to + count) of the same list, to <= from; or those that `chosen` names, counted
/// from `from` on and ascending; of them ~i is row i which is rotated already for where it goes.
template <class T>
struct MoveTask {
    EntryRows<T> rows;
    int heads = 0;
    int from = 0;
    int to = 0;
    int count = 0;
    RowMap chosen;
    Positions positions;  ///< of the rows from `from` on, as they are; the i-th that moves is afterwards at to + i

    FREQKV_INLINE int columns() const { return rows.columns.count(); }
};

/// By one block for some columns of one head, `slots` rows at a time in ascending order, so that no row is overwritten
/// before it is read.
template <class V, class T, ThreadBlock Block, SharedPoints<V> Memory>
FREQKV_INLINE void move_rows(const MoveTask<T>& task, int head, int first_pack, int slots, Block block, Memory memory) {
    const EntryRows<T> rows = task.rows.of_head(head);
    const RowMap chosen = task.chosen.of_head(head);
    const int log_packs = memory.layout.log_packs;
    const auto column_of = [&](Place at) { return (first_pack + at.pack) * columns_of<V>; };
    const auto source = [&](int row) {
        const int item = chosen(row);
        return item < 0 ? ~item : item;
    };
    const auto turned = [&](int row, int column, const Complex<V>& x) {
        if (task.positions.frequencies == nullptr || chosen(row) < 0) return x;
        const Index change = Index{task.to} + row - task.positions.of(chosen(row));
        if (change == 0) return x;
        return rows.template turned<false>(x, column, task.positions.frequencies, change);
    };
    rows.with_access([&](auto access) {
        using Access = decltype(access);
        for (int done = 0; done < task.count; done += slots) {
            const int n = task.count - done < slots ? task.count - done : slots;
            block.transfer(
                n, log_packs,
                [&](Place at) {
                    return rows.template load<Access, V>(task.from + source(done + at.slot), column_of(at));
                },
                [&](Place at, const Complex<V>& x) { memory.store(memory.layout.index(at), x); });
            block.each(n, log_packs, [&](Place at) {
                const int row = done + at.slot;
                const int column = column_of(at);
                const Complex<V> x = memory.load(memory.layout.index(at));
                rows.template store<Access>(task.to + row, column, turned(row, column, x));
            });
        }
    });
}

}  // namespace freqkv::cuda::detail
