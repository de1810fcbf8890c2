// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// One head that is due, and what becomes of it.
template <class T>
struct DueList {
    Index head = 0;
    MatrixView<T> keys;    // [entries, key_dim]
    MatrixView<T> values;  // [entries, value_dim]
    Index compressions = 0;
    QueryWindow<Arithmetic<T>> queries;
    std::span<const Index> positions;  // of the stored keys; empty: entry i is at position i
    TokenRange* ranges = nullptr;      // [entries]; or null
    Arithmetic<T>* mass = nullptr;     // [entries]: attention given to each; or null
    Arithmetic<T>* weights = nullptr;  // [entries]: tokens that each stands for; or null
    const Arithmetic<T>* log_weights = nullptr;
    Index* origins = nullptr;  // [entries], or null; set by compress(): which entry is at i now, with its key at most
                               // turned; -1: none, it was computed

    SpanList spans;        // set by compress(): keep is what was kept
    Index size_after = 0;  // set by compress()
};

template <class T>
struct CompressionSettings {
    Index layer = 0;
    Index sinks = 0;
    Index recent = 0;
    const Rope<Arithmetic<T>>* rope = nullptr;  // null: stored keys are not rotated
    // What stays as it is keeps its position, and what is made of several entries gets the middle of their tokens', in
    // half steps; else everything goes to the position of its index, and all lists have the same positions.
    bool text_positions = false;
    Observer observer;
};

// Entries [first, first + count) of a list, as a codec or an allocation sees them.
template <class T>
SpanReader<T> reader(const DueList<T>& list, const CompressionSettings<T>& settings, Index first, Index count) {
    return {list.head, list.keys,    list.values, settings.rope,    list.positions, first,
            count,     list.queries, list.mass,   list.log_weights, list.ranges};
}

template <class T>
Index most_spans(std::span<const DueList<T>> lists) {
    Index most = 1;
    for (const DueList<T>& list : lists) most = std::max(most, list.spans.size());
    return most;
}

// Calls f(list, number of the list, span, worker) for every span, on all threads; f may throw.
template <class T, Executor E, class F>
void for_each_span(std::span<DueList<T>> lists, const E& executor, F&& f) {
    const Index spans = most_spans(std::span<const DueList<T>>(lists));
    for_each_catching(executor, static_cast<Index>(lists.size()) * spans, [&](Index task, Index worker) {
        const Index l = task / spans;
        DueList<T>& list = lists[static_cast<std::size_t>(l)];
        if (task % spans < list.spans.size()) f(list, l, list.spans[task % spans], worker);
    });
}

// The position at which entry `entry` is stored.
template <class T>
Index position_of(const DueList<T>& list, Index entry) {
    return list.positions.empty() ? entry : list.positions[static_cast<std::size_t>(entry)];
}

// In half steps, the middle of tokens [begin, end).
inline Index middle_of(const TokenRange& tokens) { return tokens.begin + tokens.end - 1; }

}  // namespace freqkv::detail::inline FREQKV_ISA
