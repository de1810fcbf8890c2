// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"

// The blocks of blocks.hpp on a GPU, and what lies between them: what one block of threads does. W is the type of the
// weights that a result is multiplied with next; the rest is float.
namespace llama::device {

using freqkv::cuda::detail::from_float;

/// Threads of each kernel, and partial sums of rms_norm(), whatever their number: a result does not depend on it.
inline constexpr int threads = 256;
/// Elements that a block of an element-wise kernel takes.
inline constexpr int elements_per_block = 1024;

/// x = row of a table of W.
template <class W, class Block>
FREQKV_INLINE void copy_row(const W* row, float* x, int dim, Block block) {
    block.each(dim, [&](int i) FREQKV_INLINE_LAMBDA { x[i] = freqkv::cuda::detail::to_float(row[i]); });
}

/// y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + epsilon). memory: `threads` floats.
template <class W, class Block, class Memory>
FREQKV_INLINE void rms_norm(const float* x, const float* weight, W* y, int dim, float epsilon, Block block,
                            Memory memory) {
    block.each(threads, [&](int t) FREQKV_INLINE_LAMBDA {
        float sum = 0;
        for (int i = t; i < dim; i += threads) sum += x[i] * x[i];
        memory.store(t, sum);
    });
    for (int width = threads / 2; width > 0; width /= 2) {
        block.each(width,
                   [&](int t) FREQKV_INLINE_LAMBDA { memory.store(t, memory.load(t) + memory.load(t + width)); });
    }
    block.each(dim, [&](int i) FREQKV_INLINE_LAMBDA {
        const float scale = 1 / sqrtf(memory.load(0) / static_cast<float>(dim) + epsilon);
        y[i] = from_float<W>(x[i] * scale * weight[i]);
    });
}

/// y = silu(gate) * up for elements [first, first + count) of a token.
template <class W, class Block>
FREQKV_INLINE void swiglu(const float* gate, const float* up, W* y, int first, int count, Block block) {
    block.each(count, [&](int i) FREQKV_INLINE_LAMBDA {
        const float g = gate[first + i];
        y[first + i] = from_float<W>(g / (1 + expf(-g)) * up[first + i]);
    });
}

/// y = x for `count` elements.
template <class W, class Block>
FREQKV_INLINE void convert(const float* x, W* y, int count, Block block) {
    block.each(count, [&](int i) FREQKV_INLINE_LAMBDA { y[i] = from_float<W>(x[i]); });
}

}  // namespace llama::device
