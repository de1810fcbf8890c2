// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/select_task.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/norms.hpp"

// The scores of the host that look at entries alone. device_score() says how a device computes one of the host's.
namespace freqkv::cuda::detail {

/// ShortKeys and LongValues: `factor` times the squared length of keys or values.
struct NormScore {
    static constexpr int passes = 1;

    bool of_values = false;
    float factor = 1;

    template <class T>
    Index floats(const SelectTask<T>& /*task*/) const {
        return 0;
    }

    template <int Pass, class T, ThreadBlock Block>
    FREQKV_INLINE void run(const SelectTask<T>& task, int head, int stretch, Block block) const {
        const EntryRows<const T> rows = (of_values ? task.values : task.keys).of_head(head);
        float* const scores = task.scores_of(head);
        block.each(stretch_size(stretch, task.choice.length), [&](int e) {
            const int i = stretch * score_stretch + e;
            float squares = 0;
            each_value(rows, task.begin + i, [&](int, float x) { squares += x * x; });
            scores[i] = factor * squares;
        });
    }
};

/// KeyDifference: the lengths of all keys and the mean of each stretch, the mean of all, the cosines with it.
struct KeyDifferenceScore {
    static constexpr int passes = 3;

    template <class T>
    Index floats(const SelectTask<T>& task) const {
        return task.entries + (score_stretches(task.entries) + Index{1}) * task.keys.columns.dims + 1;
    }

    template <int Pass, class T, ThreadBlock Block>
    FREQKV_INLINE void run(const SelectTask<T>& task, int head, int stretch, Block block) const {
        const EntryRows<const T> keys = task.keys.of_head(head);
        const int dims = keys.columns.dims;
        const int stretches = score_stretches(task.entries);
        float* const lengths = task.floats_of(head);         // [entries]
        float* const sums = lengths + task.entries;          // [stretches, dims]
        float* const mean = sums + Index{stretches} * dims;  // [dims], and its length
        const int first = stretch * score_stretch;
        if constexpr (Pass == 0) {
            const int count = stretch_size(stretch, task.entries);
            block.each(count, [&](int e) {
                float squares = 0;
                each_value(keys, first + e, [&](int, float x) { squares += x * x; });
                lengths[first + e] = length_of(squares);
            });
            block.each(dims, [&](int d) {
                float sum = 0;
                for (int i = first; i < first + count; ++i) sum += value(keys, i, d) * (1 / lengths[i]);
                sums[Index{stretch} * dims + d] = sum;
            });
        } else if constexpr (Pass == 1) {
            if (stretch > 0) return;
            block.each(dims, [&](int d) {
                float sum = 0;
                for (int s = 0; s < stretches; ++s) sum += sums[Index{s} * dims + d];
                mean[d] = sum;
            });
            block.once([&] {
                float squares = 0;
                for (int d = 0; d < dims; ++d) squares += mean[d] * mean[d];
                mean[dims] = length_of(squares);
            });
        } else {
            float* const scores = task.scores_of(head);
            block.each(stretch_size(stretch, task.choice.length), [&](int e) {
                const int i = task.begin + first + e;
                float product = 0;
                each_value(keys, i, [&](int d, float x) { product += x * mean[d]; });
                scores[first + e] = -product / (lengths[i] * mean[dims]);
            });
        }
    }

private:
    // As the host does, nothing is divided by 0.
    FREQKV_INLINE static float length_of(float squares) {
        const float length = sqrtf(squares);
        return length < 1e-12F ? 1e-12F : length;
    }

    template <class T>
    FREQKV_INLINE static float value(const EntryRows<const T>& rows, int r, int d) {
        return to_float(rows.row(r)[d * rows.dim_stride]);
    }
};

inline NormScore device_score(const ShortKeys& /*score*/) { return {false, -1}; }
inline NormScore device_score(const LongValues& /*score*/) { return {true, 1}; }
inline KeyDifferenceScore device_score(const KeyDifference& /*score*/) { return {}; }

}  // namespace freqkv::cuda::detail
