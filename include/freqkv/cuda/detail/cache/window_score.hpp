// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/query_window.hpp"
#include "freqkv/cuda/detail/cache/select_task.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/policy/window_attention.hpp"

namespace freqkv::cuda::detail {

/// WindowAttention. Products of queries and keys are computed twice, for the sums under the softmax and for the
/// weights, so that no weight is stored: O(window * group * entries * key_dim), and scratch of 8 bytes for each query
/// and stretch of the list beside the rotated queries. A thread has a query, or an entry, and eight of the other kind
/// at a time.
struct WindowScore {
    static constexpr int passes = 5;

    int pool = 1;
    bool mean = false;  ///< of neighbours; else the largest
    float scale = 0;    ///< 0: 1 / sqrt(key_dim)

    template <class T>
    Index floats(const SelectTask<T>& task) const {
        const Index stretches = score_stretches(task.entries);
        return width(task) * (task.keys.columns.dims + 2 * stretches + 2) + task.choice.length;
    }

    template <int Pass, class T, ThreadBlock Block>
    FREQKV_INLINE void run(const SelectTask<T>& task, int head, int stretch, Block block) const {
        if constexpr (Pass == 0) rotate_queries(task, head, stretch, block);
        if constexpr (Pass == 1) sum_stretch(task, head, stretch, block);
        if constexpr (Pass == 2) sum_list(task, head, stretch, block);
        if constexpr (Pass == 3) sum_weights(task, head, stretch, block);
        if constexpr (Pass == 4) share_with_neighbours(task, head, stretch, block);
    }

private:
    static constexpr int at_once = 8;

    // Queries in whole groups of at_once.
    template <class T>
    FREQKV_INLINE static int width(const SelectTask<T>& task) {
        return (task.queries.rows() + at_once - 1) / at_once * at_once;
    }

    // What passes leave for those behind them.
    struct Scratch {
        float* queries;   // [dim, width], rotated and scaled
        float* largest;   // [stretches, width]: products of each stretch
        float* sums;      // [stretches, width]: of their exponentials, less the largest
        float* over_all;  // [2, width]: the largest of the list, and 1 / the sum
        float* weights;   // [length]: of entries, before they are shared with neighbours
    };
    template <class T>
    FREQKV_INLINE static Scratch scratch_of(const SelectTask<T>& task, int head) {
        const int rows = width(task);
        const Index stretches = score_stretches(task.entries);
        Scratch scratch;
        scratch.queries = task.floats_of(head);
        scratch.largest = scratch.queries + Index{task.keys.columns.dims} * rows;
        scratch.sums = scratch.largest + stretches * rows;
        scratch.over_all = scratch.sums + stretches * rows;
        scratch.weights = scratch.over_all + 2 * Index{rows};
        return scratch;
    }

    // Entries that a query sees; the query of the latest token stands at the last of them.
    template <class T>
    FREQKV_INLINE static int visible(const SelectTask<T>& task, int row) {
        const int count = task.entries - task.queries.tokens + 1 + row / task.queries.group;
        return count > 1 ? count : 1;
    }

    template <class T, ThreadBlock Block>
    FREQKV_INLINE void rotate_queries(const SelectTask<T>& task, int head, int stretch, Block block) const {
        const QueryWindow& window = task.queries;
        const Columns& columns = window.columns;
        const int rows = width(task);
        float* const to = scratch_of(task, head).queries;
        const float factor = scale > 0 ? scale : 1 / sqrtf(static_cast<float>(columns.dims));
        for (int row = stretch; row < rows; row += score_stretches(task.entries)) {
            const bool is_there = row < window.rows();
            const float* const query = window.row(head, is_there ? row : 0);
            const Index position = is_there ? visible(task, row) - 1 : 0;
            block.each(columns.count(), [&](int c) {
                const int first = columns.first(c);
                const int second = columns.second(c);
                Complex<float> x{is_there ? query[first] : 0, is_there && second < columns.dims ? query[second] : 0};
                if (window.frequencies != nullptr && c < columns.pairs) {
                    const Complex<float> angle = rope_angle(position, window.frequencies[c]);
                    x = x.turned(angle.re, angle.im);
                }
                to[Index{first} * rows + row] = x.re * factor;
                if (second < columns.dims) to[Index{second} * rows + row] = x.im * factor;
            });
        }
    }

    template <class T, ThreadBlock Block>
    FREQKV_INLINE void sum_stretch(const SelectTask<T>& task, int head, int stretch, Block block) const {
        const EntryRows<const T> keys = task.keys.of_head(head);
        const Scratch scratch = scratch_of(task, head);
        const int rows = width(task);
        const int first = stretch * score_stretch;
        const int count = stretch_size(stretch, task.entries);
        block.each(task.queries.rows(), [&](int row) {
            const int seen = visible(task, row) - first;
            const int end = seen < count ? seen : count;
            float largest = -INFINITY;
            float sum = 0;
            for (int e = 0; e < end; e += at_once) {
                float products[at_once]{};
                for (int d = 0; d < keys.columns.dims; ++d) {
                    const float query = scratch.queries[Index{d} * rows + row];
                    freqkv::detail::unrolled<at_once>([&](auto j) FREQKV_INLINE_LAMBDA {
                        const int entry = e + static_cast<int>(j);
                        const T* const key = keys.row(first + (entry < end ? entry : end - 1));
                        products[j] += query * to_float(key[d * keys.dim_stride]);
                    });
                }
                freqkv::detail::unrolled<at_once>([&](auto j) FREQKV_INLINE_LAMBDA {
                    if (e + static_cast<int>(j) >= end) return;
                    const float before = largest;
                    largest = products[j] > largest ? products[j] : largest;
                    sum = sum * expf(before - largest) + expf(products[j] - largest);
                });
            }
            scratch.largest[Index{stretch} * rows + row] = largest;
            scratch.sums[Index{stretch} * rows + row] = sum;
        });
    }

    template <class T, ThreadBlock Block>
    FREQKV_INLINE void sum_list(const SelectTask<T>& task, int head, int stretch, Block block) const {
        if (stretch > 0) return;
        const Scratch scratch = scratch_of(task, head);
        const int rows = width(task);
        const int stretches = score_stretches(task.entries);
        block.each(task.queries.rows(), [&](int row) {
            float largest = -INFINITY;
            for (int s = 0; s < stretches; ++s) {
                const float of_stretch = scratch.largest[Index{s} * rows + row];
                largest = of_stretch > largest ? of_stretch : largest;
            }
            float sum = 0;
            for (int s = 0; s < stretches; ++s) {
                // 0 for a stretch that the query does not see.
                sum += scratch.sums[Index{s} * rows + row] * expf(scratch.largest[Index{s} * rows + row] - largest);
            }
            scratch.over_all[row] = largest;
            scratch.over_all[rows + row] = 1 / sum;
        });
    }

    template <class T, ThreadBlock Block>
    FREQKV_INLINE void sum_weights(const SelectTask<T>& task, int head, int stretch, Block block) const {
        const EntryRows<const T> keys = task.keys.of_head(head);
        const Scratch scratch = scratch_of(task, head);
        const int rows = width(task);
        float* const to = pool > 1 ? scratch.weights : task.scores_of(head);
        block.each(stretch_size(stretch, task.choice.length), [&](int e) {
            const int i = stretch * score_stretch + e;
            float sum = 0;
            for (int row = 0; row < task.queries.rows(); row += at_once) {
                float products[at_once]{};
                each_value(keys, task.begin + i, [&](int d, float x) {
                    const float* const queries = scratch.queries + Index{d} * rows + row;
                    freqkv::detail::unrolled<at_once>([&](auto j)
                                                          FREQKV_INLINE_LAMBDA { products[j] += queries[j] * x; });
                });
                freqkv::detail::unrolled<at_once>([&](auto j) FREQKV_INLINE_LAMBDA {
                    const int r = row + static_cast<int>(j);
                    if (r >= task.queries.rows() || task.begin + i >= visible(task, r)) return;
                    sum += expf(products[j] - scratch.over_all[r]) * scratch.over_all[rows + r];
                });
            }
            to[i] = sum;
        });
    }

    template <class T, ThreadBlock Block>
    FREQKV_INLINE void share_with_neighbours(const SelectTask<T>& task, int head, int stretch, Block block) const {
        if (pool == 1) return;
        const float* const from = scratch_of(task, head).weights;
        float* const scores = task.scores_of(head);
        block.each(stretch_size(stretch, task.choice.length), [&](int e) {
            const int i = stretch * score_stretch + e;
            const int begin = i > pool / 2 ? i - pool / 2 : 0;
            const int end = i + pool / 2 + 1 < task.choice.length ? i + pool / 2 + 1 : task.choice.length;
            float sum = 0;
            float largest = from[begin];
            for (int n = begin; n < end; ++n) {
                sum += from[n];
                largest = from[n] > largest ? from[n] : largest;
            }
            scores[i] = mean ? sum / static_cast<float>(pool) : largest;
        });
    }
};

template <Index Window>
WindowScore device_score(const WindowAttention<Window>& score) {
    score.require_members();
    require(score.latest == Window, "latest", score.latest, "must be all queries of the window on a device");
    require(score.pool < Index{1} << 31, "pool", score.pool, "must be below 2^31");
    return {static_cast<int>(score.pool), score.pooling == Pooling::mean, static_cast<float>(score.scale)};
}

}  // namespace freqkv::cuda::detail
