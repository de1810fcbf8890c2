// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "freqkv/config.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail {

// One head that is due, and what becomes of it.
template <class T>
struct DueList {
    Index head = 0;
    MatrixView<T> keys;    // [entries, key_dim]
    MatrixView<T> values;  // [entries, value_dim]
    Index compressions = 0;
    QueryWindow<Arithmetic<T>> queries;
    TokenRange* ranges = nullptr;  // [entries]; or null

    SpanList spans;        // set by compress(): keep is what was kept
    Index size_after = 0;  // set by compress()
};

template <class T>
struct CompressionSettings {
    Index layer = 0;
    Index sinks = 0;
    Index recent = 0;
    const Rope<Arithmetic<T>>* rope = nullptr;  // null: stored keys are not rotated
    std::span<const Index> positions;           // of the stored keys; empty: entry i is at position i
    Observer observer;
};

// The position at which entry `entry` is stored.
template <class T>
Index position_of(const CompressionSettings<T>& settings, Index entry) {
    return settings.positions.empty() ? entry : settings.positions[static_cast<std::size_t>(entry)];
}

}  // namespace freqkv::detail
