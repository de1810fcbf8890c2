// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/foreign_rows.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// Foreign rows as float while they are compressed. What is only moved is moved as it is stored; what is computed, and
// keys that turn, are written anew. (PackedStaging is the same for lists of a cache, which are exact in parts.)
template <ForeignRows K, ForeignRows V>
class RowStaging {
public:
    RowStaging(const K& keys, const V& values) : keys_(keys), values_(values) {}

    // Sets keys, values and origins of `lists`, one for each head, to memory of the workspace beside its scratch, and
    // reads the rows to there. Throws Error or std::bad_alloc, without change.
    template <Executor E>
    void load(std::span<DueList<float>> lists, Workspace& workspace, const E& executor) const {
        const Index tokens = keys_.shape().tokens;
        const Index key_dim = keys_.shape().head_dim, value_dim = values_.shape().head_dim;
        const Index bytes = WorkspaceCursor::size<float>(checked_product("elements to read", tokens, key_dim)) +
                            WorkspaceCursor::size<float>(checked_product("elements to read", tokens, value_dim)) +
                            WorkspaceCursor::size<Index>(tokens);
        WorkspaceCursor cursor(workspace.reserve_beside(checked_product("bytes of rows to read", lists.size(), bytes)));
        for (DueList<float>& list : lists) {
            list.keys = {cursor.take<float>(tokens * key_dim), tokens, key_dim};
            list.values = {cursor.take<float>(tokens * value_dim), tokens, value_dim};
            list.origins = cursor.take<Index>(tokens);
        }
        executor.for_each(static_cast<Index>(lists.size()) * 2, [&](Index task, Index) {
            const DueList<float>& list = lists[static_cast<std::size_t>(task / 2)];
            for (Index i = 0; i < tokens; ++i) {
                if (task % 2 == 0) {
                    keys_.load(list.head, i, list.keys.row(i));
                } else {
                    values_.load(list.head, i, list.values.row(i));
                }
            }
        });
    }

    // The other way, after a compression that left size_after entries. `keys_turn`: with a change of their position.
    template <Executor E>
    void store(std::span<const DueList<float>> lists, bool keys_turn, const E& executor) const noexcept {
        executor.for_each(static_cast<Index>(lists.size()) * 2, [&](Index task, Index) {
            const DueList<float>& list = lists[static_cast<std::size_t>(task / 2)];
            if (task % 2 == 0) {
                const auto stays = [&](Index i) { return !keys_turn || position_of(list, list.origins[i]) == i; };
                store(keys_, list, list.keys, stays);
            } else {
                store(values_, list, list.values, [](Index) { return true; });
            }
        });
    }

private:
    // `stays` says of an entry that was not computed whether its row is what it was. Entries only go towards the first.
    template <ForeignRows R, class Stays>
    static void store(const R& rows, const DueList<float>& list, const MatrixView<float>& from, const Stays& stays) {
        for (Index i = 0; i < list.size_after; ++i) {
            const Index origin = list.origins[i];
            if (origin < 0 || !stays(i)) {
                rows.store(list.head, i, from.row(i));
            } else if (origin != i) {
                rows.move(list.head, origin, i);
            }
        }
    }

    const K& keys_;
    const V& values_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
