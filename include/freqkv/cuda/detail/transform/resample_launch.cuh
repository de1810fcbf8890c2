// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/cuda/detail/transform/launch_shape.hpp"
#include "freqkv/cuda/detail/transform/move_kernel.cuh"
#include "freqkv/cuda/detail/transform/resample_kernel.cuh"
#include "freqkv/error.hpp"

namespace freqkv::cuda::detail {

inline DeviceLimits device_limits() {
    return {device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
            device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor)};
}

/// Launches kernel(batch, arguments...) over all tasks, as many at a time as its parameters have room for.
template <class Task, class... Arguments>
void launch_batches(const char* call, void (*kernel)(Batch<Task>, Arguments...), std::span<const Task> tasks,
                    const LaunchShape& shape, cudaStream_t stream,
                    const std::type_identity_t<Arguments>&... arguments) {
    for (const Task& task : tasks) {
        const Index blocks = Index{task.heads} * column_groups(task.columns(), shape.columns());
        require(blocks < Index{1} << 31, "blocks of a launch", blocks, "must be below 2^31: there are too many heads");
    }
    const auto batch = std::make_unique<Batch<Task>>();
    while (!tasks.empty()) {
        const std::size_t count = std::min<std::size_t>(tasks.size(), Batch<Task>::most_tasks);
        Index blocks = 0;
        for (std::size_t i = 0; i < count; ++i) {
            batch->tasks[i] = tasks[i];
            const int groups = column_groups(tasks[i].columns(), shape.columns());
            blocks = std::max(blocks, Index{tasks[i].heads} * groups);
        }
        launch_kernel(call, kernel, dim3(static_cast<unsigned int>(blocks), static_cast<unsigned int>(count)),
                      shape.threads, shape.shared_bytes, stream, *batch, arguments...);
        tasks = tasks.subspan(count);
    }
}

template <class T>
void launch_resample(std::span<const ResampleTask<T>> tasks, const LaunchShape& shape, cudaStream_t stream) {
    auto* const kernel = shape.pairs ? &resample_kernel<FloatPair, T> : &resample_kernel<float, T>;
    launch_batches("cudaLaunchKernel of resample_kernel", kernel, tasks, shape, stream, shape.log_packs);
}

/// Rows of a chunk of move_kernel.
inline constexpr int moved_rows = 128;

template <class T>
void launch_move(std::span<const MoveTask<T>> tasks, cudaStream_t stream) {
    int columns = 1;
    for (const MoveTask<T>& task : tasks) columns = std::max(columns, task.columns());
    const DeviceLimits limits = device_limits();
    const bool pairs = carries_pairs(moved_rows, 1, columns, limits);
    const LaunchShape shape = launch_shape(moved_rows, pairs, columns, limits, 16);
    auto* const kernel = shape.pairs ? &move_kernel<FloatPair, T> : &move_kernel<float, T>;
    launch_batches("cudaLaunchKernel of move_kernel", kernel, tasks, shape, stream, shape.log_packs, moved_rows);
}

/// Loads the kernels above.
template <class T>
void load_kernels() {
    load_kernel(&resample_kernel<float, T>);
    load_kernel(&resample_kernel<FloatPair, T>);
    load_kernel(&move_kernel<float, T>);
    load_kernel(&move_kernel<FloatPair, T>);
}

}  // namespace freqkv::cuda::detail
