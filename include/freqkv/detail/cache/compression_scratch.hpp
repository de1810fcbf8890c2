// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/energy.hpp"
#include "freqkv/error.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// What one compression needs scratch for.
struct CompressionSizes {
    Index lists = 0;
    Index entries = 0;         // of the longest list
    Index spans = 0;           // of the list with most
    Index tasks_per_span = 0;  // each has an energy
    bool reports = false;      // whether energies are kept
    Index indices = 0;         // kept for each entry, by engines that choose
    Index angle_lists = 1;     // lists with positions of their own; 1: all alike
    Index workers = 0;
    Index codec_bytes = 0;  // for each worker
};

// The pieces of a Workspace that one compression uses, and the rotary angles of all entries. Valid until
// the workspace is used for anything else.
template <class C>
class CompressionScratch {
public:
    // Entry i of list l is stored at position(l, i), and afterwards at i, or where set_new_position() says if
    // `to_index` is false.
    template <class Position>
    CompressionScratch(const CompressionSizes& sizes, const Rope<C>* rope, bool to_index, const Position& position,
                       Workspace& workspace)
        : sizes_(sizes), rope_(rope) {
        angle_row_ = rope == nullptr ? 0 : 2 * rope->pairs();
        const auto tabulated = [&](Index p) { return p >= 0 && p < rope->table_positions(); };
        Index computed_rows = 0;
        for (Index l = 0; l < sizes.angle_lists && rope != nullptr; ++l) {
            for (Index i = 0; i < sizes.entries; ++i) {
                computed_rows += tabulated(position(l, i)) ? 0 : 1;
                computed_rows += !to_index || tabulated(i) ? 0 : 1;
            }
        }
        const bool new_rows = !to_index && computed_rows > 0;  // else new positions, between old ones, have theirs, too
        angle_bytes_ = WorkspaceCursor::size<C>(angle_row_);
        worker_bytes_ = angle_bytes_ + Workspace::stride(sizes.codec_bytes);
        const Index rows = checked_product("rotary angles", sizes.angle_lists, sizes.entries);
        const Index computed = checked_product("rotary angles", computed_rows, angle_row_);
        const Index computed_new = new_rows ? checked_product("rotary angles", rows, angle_row_) : 0;
        const Index indices = checked_product("chosen entries", sizes.lists, sizes.entries, sizes.indices);
        // Only where they are asked for: schedules that take more spans later would have the scratch grow.
        const Index tasks = checked_product("compression tasks", sizes.lists, sizes.spans, sizes.tasks_per_span);
        const Index energies = sizes.reports ? tasks : 0;
        const Index worker_total = checked_product("scratch size", sizes.workers, worker_bytes_);
        WorkspaceCursor cursor(
            workspace.reserve(1, 2 * WorkspaceCursor::size<const C*>(rows) + WorkspaceCursor::size<C>(computed) +
                                     WorkspaceCursor::size<C>(computed_new) + WorkspaceCursor::size<Index>(indices) +
                                     WorkspaceCursor::size<Energy>(energies) + worker_total));
        old_angles_ = cursor.take<const C*>(rows);
        new_angles_ = cursor.take<const C*>(rows);
        C* next_computed = cursor.take<C>(computed);
        new_computed_ = cursor.take<C>(computed_new);
        chosen_ = cursor.take<Index>(indices);
        energies_ = cursor.take<Energy>(energies);
        workers_ = cursor.take<std::byte>(worker_total);

        std::fill_n(energies_, energies, Energy{});
        if (rope == nullptr) return;
        const auto angles = [&](Index p) {
            const C* const row = rope->angles(p, next_computed);
            if (row == next_computed) next_computed += angle_row_;
            return row;
        };
        for (Index l = 0; l < sizes.angle_lists; ++l) {
            for (Index i = 0; i < sizes.entries; ++i) {
                old_angles_[l * sizes.entries + i] = angles(position(l, i));
                if (to_index) new_angles_[l * sizes.entries + i] = angles(i);
            }
        }
    }

    // Entry i of a list will be at `position`, between the old ones.
    void set_new_position(Index list, Index i, Index position) const {
        const Index at = list * sizes_.entries + i;
        new_angles_[at] = rope_->angles(position, new_computed_ + at * angle_row_);
    }

    const CompressionSizes& sizes() const { return sizes_; }

    // [entries] of a list: what Rope::angles() gives before and after the compression.
    const C* const* old_angles(Index list) const { return old_angles_ + angle_list(list); }
    const C* const* new_angles(Index list) const { return new_angles_ + angle_list(list); }

    // [entries] of one list: what a selection chooses; and further such arrays, up to sizes().indices.
    Index* chosen_of(Index list, Index which = 0) const {
        return chosen_ + (list * sizes_.indices + which) * sizes_.entries;
    }

    // [tasks_per_span] of one span of one list, zero at first; only if sizes().reports.
    Energy* energies_of(Index list, Index span) const {
        return energies_ + (list * sizes_.spans + span) * sizes_.tasks_per_span;
    }

    // A worker's own: a row for Rope::angles(), and what the codec asked for.
    C* angles_of(Index worker) const { return reinterpret_cast<C*>(workers_ + worker * worker_bytes_); }
    std::byte* codec_bytes_of(Index worker) const { return workers_ + worker * worker_bytes_ + angle_bytes_; }

private:
    Index angle_list(Index list) const { return sizes_.angle_lists == 1 ? 0 : list * sizes_.entries; }

    CompressionSizes sizes_;
    const Rope<C>* rope_;
    Index angle_row_;
    const C** old_angles_;  // [angle_lists, entries]
    const C** new_angles_;  // [angle_lists, entries]
    C* new_computed_;       // [angle_lists, entries, angle_row_], or none
    Index* chosen_;         // [lists, indices, entries]
    Energy* energies_;      // [lists, spans, tasks_per_span]
    std::byte* workers_;    // [workers, worker_bytes_]
    Index angle_bytes_;
    Index worker_bytes_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
