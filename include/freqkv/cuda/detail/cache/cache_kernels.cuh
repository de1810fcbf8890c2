// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/append_rows.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"

namespace freqkv::cuda::detail {

/// Threads of append_kernel, and rows of one of its blocks.
inline constexpr int append_threads = 128;
inline constexpr int append_rows_per_block = 64;
/// Columns of a block: 2^append_log_packs packs.
inline constexpr int append_log_packs = 4;

/// Most blocks of a launch in z.
inline constexpr Index most_append_pieces = 65535;

/// Grid: x is a head and a group of packs of columns, y a task, z every so many-th piece of its rows.
template <class V, class U, class T>
__global__ void __launch_bounds__(append_threads)
    append_kernel(const __grid_constant__ Batch<AppendTask<U, T>, small_batch> batch) {
    const AppendTask<U, T>& task = batch.tasks[blockIdx.y];
    const BlockWork work =
        work_of_block(static_cast<int>(blockIdx.x), task.columns(), columns_of<V> << append_log_packs);
    if (work.head >= task.heads) return;
    const int pieces = (task.count - 1) / append_rows_per_block + 1;
    for (auto piece = static_cast<int>(blockIdx.z); piece < pieces; piece += static_cast<int>(gridDim.z)) {
        const int first = piece * append_rows_per_block;
        const int left = task.count - first;
        append_rows<V>(task, work.head, work.group << append_log_packs, append_log_packs, first,
                       left < append_rows_per_block ? left : append_rows_per_block, DeviceBlock());
    }
}

/// A list's new size, or what it grows by.
struct SizeChange {
    std::int32_t list = 0;
    std::int32_t value = 0;
    bool adds = false;
};

/// One block for each change.
template <class Size>
__global__ void change_sizes_kernel(const __grid_constant__ Batch<SizeChange, small_batch> batch, Size* const sizes) {
    const SizeChange& change = batch.tasks[blockIdx.x];
    sizes[change.list] = change.value + (change.adds ? sizes[change.list] : 0);
}

}  // namespace freqkv::cuda::detail
