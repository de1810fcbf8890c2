// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/close_up.hpp"
#include "freqkv/detail/cache/due_list.hpp"
#include "freqkv/energy.hpp"
#include "freqkv/view.hpp"

// The last step of a compression: entries close up behind what was compressed. Selections leave their
// indices in `chosen` (of the span that begins at entry b: chosen[b], …, relative to b); `chosen` is null
// after a transform, whose result stands at the beginning of its span, rotated for where it will go. Where some entries
// were kept and others transformed or merged, ~i says that a computed one stands at i, as it will be.
namespace freqkv::detail::inline FREQKV_ISA {

inline Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

template <class T>
void copy_row(const MatrixView<T>& rows, Index from, Index to) {
    if (from == to) return;
    const T* const source = rows.row(from);
    T* const target = rows.row(to);
    if (rows.column_stride == 1) {
        std::memcpy(static_cast<void*>(target), source, static_cast<std::size_t>(rows.columns) * sizeof(T));
    } else {
        for (Index c = 0; c < rows.columns; ++c) target[c * rows.column_stride] = source[c * rows.column_stride];
    }
}

// Moves a stored key, turning it once by the change of its position. `scratch` is for Rope::angles().
template <class T>
void move_key(const DueList<T>& list, const CompressionSettings<T>& settings, Index from, Index to,
              Arithmetic<T>* scratch) {
    const bool stays = settings.rope == nullptr || settings.text_positions;
    const Index change = stays ? 0 : to - position_of(list, from);
    if (change == 0) return copy_row(list.keys, from, to);
    const Arithmetic<T>* const angles = settings.rope->angles(change < 0 ? -change : change, scratch);
    const T* const source = list.keys.row(from);
    T* const target = list.keys.row(to);
    const Index stride = list.keys.column_stride;
    if (change < 0) {
        settings.rope->template turn<true>(source, stride, target, stride, angles);
    } else {
        settings.rope->template turn<false>(source, stride, target, stride, angles);
    }
}

// Calls move(from, to) for every entry that goes somewhere as it is, or was chosen; computed(s, i, to) for the i-th
// that a transform left of span s; and placed(from, to) for one that was computed and left at its place.
template <class T, class Move, class Computed, class Placed>
void move_each(const DueList<T>& list, const Index* chosen, Move&& move, Computed&& computed, Placed&& placed) {
    const auto stay = [&](Index from, Index to, Index count) {
        for (Index i = 0; i < count; ++i) move(from + i, to + i);
    };
    const auto remain = [&](Index s, Index to) {
        const Span& span = list.spans[s];
        for (Index i = 0; i < span.keep; ++i) {
            const Index item = chosen == nullptr ? 0 : chosen[span.begin + i];
            if (chosen == nullptr) {
                computed(s, i, to + i);
            } else if (item >= 0) {
                move(span.begin + item, to + i);
            } else {
                placed(span.begin + ~item, to + i);
            }
        }
    };
    close_up({list.spans.begin(), list.spans.end()}, list.keys.rows, stay, remain);
}

template <class T>
void move_keys(const DueList<T>& list, const CompressionSettings<T>& settings, const Index* chosen,
               Arithmetic<T>* scratch) {
    move_each(
        list, chosen, [&](Index from, Index to) { move_key(list, settings, from, to, scratch); },
        [&](Index s, Index i, Index to) { copy_row(list.keys, list.spans[s].begin + i, to); },
        [&](Index from, Index to) { copy_row(list.keys, from, to); });
}

template <class T>
void move_values(const DueList<T>& list, const Index* chosen) {
    const auto copy = [&](Index from, Index to) { copy_row(list.values, from, to); };
    move_each(list, chosen, copy, [&](Index s, Index i, Index to) { copy(list.spans[s].begin + i, to); }, copy);
}

// The tokens that row i of a transform's result stands for: it shows its span at every (length / keep)-th entry.
inline TokenRange range_of_row(const TokenRange* ranges, const Span& span, Index i) {
    const Index first = span.begin + i * span.length / span.keep;
    const Index last = span.begin + divide_up((i + 1) * span.length, span.keep) - 1;
    return {ranges[first].begin, ranges[last].end};
}

// What the entries stand for.
template <class T>
void move_ranges(const DueList<T>& list, const Index* chosen) {
    TokenRange* const ranges = list.ranges;
    if (ranges == nullptr) return;
    const auto copy = [&](Index from, Index to) { ranges[to] = ranges[from]; };
    move_each(
        list, chosen, copy, [&](Index s, Index i, Index to) { ranges[to] = range_of_row(ranges, list.spans[s], i); },
        copy);
}

// Which entries are still what they were.
template <class T>
void move_origins(const DueList<T>& list, const Index* chosen) {
    Index* const origins = list.origins;
    if (origins == nullptr) return;
    move_each(
        list, chosen, [&](Index from, Index to) { origins[to] = from; },
        [&](Index, Index, Index to) { origins[to] = -1; }, [&](Index, Index to) { origins[to] = -1; });
}

// What is summed of entries: `sums` [entries], or null. Row i of a transform's result has what stands in the i-th part
// of its span, of an entry on the border as much as lies within.
template <class T, class C>
void move_sums(const DueList<T>& list, const Index* chosen, C* sums) {
    if (sums == nullptr) return;
    const auto copy = [&](Index from, Index to) { sums[to] = sums[from]; };
    move_each(
        list, chosen, copy,
        [&](Index s, Index i, Index to) {
            const Span& span = list.spans[s];
            const Index begin = i * span.length, end = begin + span.length;  // in parts of an entry, span.keep to each
            C sum = 0;
            for (Index e = begin / span.keep; e * span.keep < end; ++e) {
                const Index within = std::min((e + 1) * span.keep, end) - std::max(e * span.keep, begin);
                sum += sums[span.begin + e] * (static_cast<C>(within) / static_cast<C>(span.keep));
            }
            sums[to] = sum;
        },
        copy);
}

// The sum of a row's squares, which rotation does not change.
template <class T>
double row_energy(const MatrixView<T>& rows, Index row) {
    double squares = 0;
    for (Index d = 0; d < rows.columns; ++d) {
        const auto x = static_cast<double>(static_cast<Arithmetic<T>>(rows(row, d)));
        squares += x * x;
    }
    return squares;
}

// What a selection discards: the squares of the rows of the span that are not among the `span.keep`
// chosen ones (indices relative to the span).
template <class T>
Energy dropped_energy(const MatrixView<T>& rows, const Span& span, const Index* chosen) {
    Energy energy;
    Index next = 0;
    for (Index i = 0; i < span.length; ++i) {
        const double squares = row_energy(rows, span.begin + i);
        energy.total += squares;
        if (next < span.keep && chosen[next] == i) {
            ++next;
        } else {
            energy.discarded += squares;
        }
    }
    return energy;
}

}  // namespace freqkv::detail::inline FREQKV_ISA
