// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

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
    Index workers = 0;
    Index codec_bytes = 0;  // for each worker
};

// The pieces of a Workspace that one compression uses, and the rotary angles of all entries. Valid until
// the workspace is used for anything else.
template <class C>
class CompressionScratch {
public:
    // Entry i is stored at positions[i], or at i if there are none; afterwards at i.
    CompressionScratch(const CompressionSizes& sizes, const Rope<C>* rope, std::span<const Index> positions,
                       Workspace& workspace)
        : sizes_(sizes) {
        const Index angle_row = rope == nullptr ? 0 : 2 * rope->pairs();
        const auto position = [&](Index i) { return positions.empty() ? i : positions[static_cast<std::size_t>(i)]; };
        Index computed_rows = 0;
        for (Index i = 0; i < sizes.entries && rope != nullptr; ++i) {
            for (const Index p : {position(i), i}) computed_rows += p < 0 || p >= rope->table_positions() ? 1 : 0;
        }
        angle_bytes_ = WorkspaceCursor::size<C>(angle_row);
        worker_bytes_ = angle_bytes_ + Workspace::stride(sizes.codec_bytes);
        const Index computed = checked_product("rotary angles", computed_rows, angle_row);
        const Index indices = checked_product("chosen entries", sizes.lists, sizes.entries, sizes.indices);
        // Only where they are asked for: schedules that take more spans later would have the scratch grow.
        const Index tasks = checked_product("compression tasks", sizes.lists, sizes.spans, sizes.tasks_per_span);
        const Index energies = sizes.reports ? tasks : 0;
        const Index worker_total = checked_product("scratch size", sizes.workers, worker_bytes_);
        WorkspaceCursor cursor(workspace.reserve(
            1, 2 * WorkspaceCursor::size<const C*>(sizes.entries) + WorkspaceCursor::size<C>(computed) +
                   WorkspaceCursor::size<Index>(indices) + WorkspaceCursor::size<Energy>(energies) + worker_total));
        old_angles_ = cursor.take<const C*>(sizes.entries);
        new_angles_ = cursor.take<const C*>(sizes.entries);
        C* next_computed = cursor.take<C>(computed);
        chosen_ = cursor.take<Index>(indices);
        energies_ = cursor.take<Energy>(energies);
        workers_ = cursor.take<std::byte>(worker_total);

        std::fill_n(energies_, energies, Energy{});
        if (rope == nullptr) return;
        const auto angles = [&](Index p) {
            const C* const row = rope->angles(p, next_computed);
            if (row == next_computed) next_computed += angle_row;
            return row;
        };
        for (Index i = 0; i < sizes.entries; ++i) {
            old_angles_[i] = angles(position(i));
            new_angles_[i] = angles(i);
        }
    }

    const CompressionSizes& sizes() const { return sizes_; }

    // [entries]: for each entry what Rope::angles() gives before and after the compression.
    const C* const* old_angles() const { return old_angles_; }
    const C* const* new_angles() const { return new_angles_; }

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
    CompressionSizes sizes_;
    const C** old_angles_;
    const C** new_angles_;
    Index* chosen_;       // [lists, indices, entries]
    Energy* energies_;    // [lists, spans, tasks_per_span]
    std::byte* workers_;  // [workers, worker_bytes_]
    Index angle_bytes_;
    Index worker_bytes_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
