// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/transform/launch_shape.hpp"
#include "freqkv/cuda/detail/transform/move_rows.hpp"

namespace freqkv::cuda::detail {

/// Grid: x is a head and a group of packs of columns, y a task. Dynamic shared memory: `slots` rows of a group.
template <class V, class T>
__global__ void __launch_bounds__(most_threads)
    move_kernel(const __grid_constant__ Batch<MoveTask<T>> batch, const int log_packs, const int slots) {
    const MoveTask<T>& task = batch.tasks[blockIdx.y];
    const BlockWork work =
        work_of_block(static_cast<int>(blockIdx.x), task.rows.columns.count(), columns_of<V> << log_packs);
    if (work.head >= task.heads) return;
    move_rows<V>(task, work.head, work.group << log_packs, slots, DeviceBlock(), DeviceMemory<V>({log_packs, false}));
}

}  // namespace freqkv::cuda::detail
