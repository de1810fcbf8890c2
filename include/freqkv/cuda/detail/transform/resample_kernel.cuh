// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/transform/launch_shape.hpp"
#include "freqkv/cuda/detail/transform/resample.hpp"

namespace freqkv::cuda::detail {

/// Grid: x is a head and a group of packs of columns, y a task. Dynamic shared memory: shared_bytes() of the task with
/// most slots.
template <class V, class T>
__global__ void __launch_bounds__(most_threads)
    resample_kernel(const __grid_constant__ Batch<ResampleTask<T>> batch, const int log_packs) {
    const ResampleTask<T>& task = batch.tasks[blockIdx.y];
    const BlockWork work =
        work_of_block(static_cast<int>(blockIdx.x), task.in.columns.count(), columns_of<V> << log_packs);
    if (work.head >= task.heads) return;
    const DeviceMemory<V> memory(layout_of(task, log_packs));
    const Resample<V, T, DeviceBlock, DeviceMemory<V>> resample(task, work.head, work.group << log_packs, DeviceBlock(),
                                                                memory);
    resample.run(task.energies == nullptr ? nullptr : task.energies + work.head * work.groups + work.group);
}

}  // namespace freqkv::cuda::detail
