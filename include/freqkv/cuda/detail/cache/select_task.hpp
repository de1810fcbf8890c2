// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/choose_entries.hpp"
#include "freqkv/cuda/detail/cache/query_window.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// What scores of entries are computed from, and how.
namespace freqkv::cuda::detail {

/// A span of all heads of a list, whose entries are scored.
template <class T>
struct SelectTask {
    EntryRows<const T> keys;  ///< of the list, as they are stored
    EntryRows<const T> values;
    int entries = 0;      ///< of the list
    int begin = 0;        ///< of the span in it
    QueryWindow queries;  ///< of the sequence, for scores that read them
    Choice choice;        ///< choice.scores get the scores
    Index head_floats = 0;
    float* floats = nullptr;  ///< [heads][head_floats]: the score's scratch, which later passes read

    FREQKV_INLINE float* floats_of(int head) const { return floats + head * head_floats; }
    FREQKV_INLINE float* scores_of(int head) const { return choice.scores + Index{head} * choice.length; }
};

/// Entries of a list that one block goes through, and its threads.
inline constexpr int score_stretch = 128;

FREQKV_HOST_DEVICE inline int score_stretches(int entries) { return (entries + score_stretch - 1) / score_stretch; }

/// Entries of stretch `s` of `count` ones, 0 or less where it lies behind them.
FREQKV_INLINE int stretch_size(int s, int count) {
    const int left = count - s * score_stretch;
    return left < score_stretch ? left : score_stretch;
}

/// Calls f(d, value) for the dimensions of a row in their order, in which the host sums, so that equal rows score
/// equally.
template <class T, class F>
FREQKV_INLINE void each_value(const EntryRows<const T>& rows, int r, const F& f) {
    const T* const at = rows.row(r);
    if (rows.wide) {
        for (int d = 0; d < rows.columns.dims; d += 4) {
            const auto values = load_elements<4>(at + d);
            freqkv::detail::unrolled<4>(
                [&](auto i) FREQKV_INLINE_LAMBDA { f(d + static_cast<int>(i), to_float(values.values[i])); });
        }
    } else {
        for (int d = 0; d < rows.columns.dims; ++d) f(d, to_float(at[d * rows.dim_stride]));
    }
}

/// A score as a device computes it, in `passes` launches: run<Pass>(task, head, stretch, block) is called for each
/// stretch of the list by one block, and may read what passes before have left for any stretch. The last pass leaves
/// task.choice.scores. floats(task) is the scratch that it takes for each head.
template <class S, class T>
concept DeviceScore = std::copyable<S> && requires(const S& score, const SelectTask<T>& task) {
    requires S::passes >= 1;
    { score.floats(task) } -> std::convertible_to<Index>;
};

}  // namespace freqkv::cuda::detail
