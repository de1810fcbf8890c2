// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/detail/lanes/hadamard.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The rows of packed lists as float while they are compressed. What is only moved is moved as it is packed; what is
// computed, and keys that turn, are packed anew.
template <class T>
class PackedStaging {
public:
    // The rows of the list that lists[i] is to be, and which of them are exact.
    struct Rows {
        PackedView<T> keys;
        PackedView<T> values;
        ExactParts exact;
    };

    // Sets keys, values and origins of `lists` to memory of the workspace beside its scratch, and unpacks `packed`
    // there. Throws Error or std::bad_alloc, without change.
    template <Executor E>
    static void unpack(std::span<const Rows> packed, std::span<DueList<float>> lists, Workspace& workspace,
                       const E& executor) {
        Index bytes = 0;
        for (const Rows& rows : packed) {
            bytes += size(rows.keys) + size(rows.values) + WorkspaceCursor::size<Index>(rows.keys.rows());
        }
        WorkspaceCursor cursor(workspace.reserve_beside(bytes));
        for (std::size_t l = 0; l < lists.size(); ++l) {
            const auto take = [&](const PackedView<T>& rows) {
                return MatrixView<float>(cursor.take<float>(rows.rows() * rows.columns()), rows.rows(), rows.columns());
            };
            lists[l].keys = take(packed[l].keys);
            lists[l].values = take(packed[l].values);
            lists[l].origins = cursor.take<Index>(packed[l].keys.rows());
        }
        for_each(packed, lists, executor, [](const PackedView<T>& from, const MatrixView<float>& to, auto&&...) {
            rows_as_arithmetic(PackedView<const T>(from), 0, to.rows, to.data);
            for (Index i = 0; i < to.rows; ++i) hadamard(to.row(i), to.columns);
        });
    }

    // The other way, after a compression that left size_after entries, of which packed_of(size_after) are packed then.
    // `keys_turn`: with a change of their index.
    template <Executor E>
    static void pack(std::span<const Rows> packed, std::span<DueList<float>> lists, bool keys_turn,
                     const E& executor) noexcept {
        for_each(packed, lists, executor,
                 [&](const PackedView<T>& rows, const MatrixView<float>& from, const DueList<float>& list, bool is_key,
                     const ExactParts& exact) {
                     // First ones stay. Packed rows are in the order of where they come from.
                     const Index begin = rows.first.rows;
                     const Index end = begin + exact.packed_of(list.size_after);
                     for (Index i = begin; i < end; ++i) {
                         T* const to = rows.packed.row(i - begin);
                         const Index origin = list.origins[i] - begin;  // among the packed ones, if it is one
                         const bool stays = !is_key || !keys_turn || list.origins[i] == i;
                         if (list.origins[i] < 0 || origin >= rows.packed.rows || !stays) {
                             pack_row(from.row(i), from.columns, to);
                         } else if (origin != i - begin) {
                             std::memcpy(to, rows.packed.row(origin),
                                         static_cast<std::size_t>(rows.packed.row_stride) * sizeof(T));
                         }
                     }
                     for (Index i = end; i < list.size_after; ++i) {
                         hadamard(from.row(i), from.columns);
                         convert_row(from.row(i), from.columns, rows.latest.row(i - end));
                     }
                 });
    }

private:
    static Index size(const PackedView<T>& rows) {
        return WorkspaceCursor::size<float>(checked_product("elements to unpack", rows.rows(), rows.columns()));
    }

    // f(packed, unpacked, list, whether these are keys, exact parts)
    template <Executor E, class F>
    static void for_each(std::span<const Rows> packed, std::span<DueList<float>> lists, const E& executor, const F& f) {
        executor.for_each(static_cast<Index>(lists.size()) * 2, [&](Index task, Index) {
            const auto l = static_cast<std::size_t>(task / 2);
            if (task % 2 == 0) {
                f(packed[l].keys, lists[l].keys, lists[l], true, packed[l].exact);
            } else {
                f(packed[l].values, lists[l].values, lists[l], false, packed[l].exact);
            }
        });
    }
};

}  // namespace freqkv::detail::inline FREQKV_ISA
