// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/choose_entries.hpp"
#include "freqkv/cuda/detail/cache/select_task.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"

namespace freqkv::cuda::detail {

/// Threads of score_kernel: an entry of its stretch each.
inline constexpr int score_threads = score_stretch;
/// Threads of choose_kernel.
inline constexpr int choose_threads = 512;

/// Grid: x is a head and a stretch of the list, y a task.
template <int Pass, class Score, class T>
__global__ void __launch_bounds__(score_threads)
    score_kernel(const __grid_constant__ Batch<SelectTask<T>> batch, const Score score) {
    const SelectTask<T>& task = batch.tasks[blockIdx.y];
    const BlockWork work = work_of_block(static_cast<int>(blockIdx.x), task.entries, score_stretch);
    if (work.head >= task.choice.heads) return;
    score.template run<Pass>(task, work.head, work.group, DeviceBlock());
}

/// Grid: x is a head, y a task. A template, as every kernel in a header has to be.
template <int Threads>
__global__ void __launch_bounds__(Threads) choose_kernel(const __grid_constant__ Batch<Choice> batch) {
    const Choice& task = batch.tasks[blockIdx.y];
    const auto head = static_cast<int>(blockIdx.x);
    if (head < task.heads) choose_entries(task, head, DeviceBlock());
}

}  // namespace freqkv::cuda::detail
