// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/append_rows.hpp"
#include "freqkv/cuda/detail/cache/cache_kernels.cuh"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"

// Launches of what happens to a cache for every token: entries are appended and sizes change. Batches are small.
namespace freqkv::cuda::detail {

/// Whether what is given to the stream becomes part of a graph.
inline bool is_captured(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check("cudaStreamIsCapturing", cudaStreamIsCapturing(stream, &status));
    return status != cudaStreamCaptureStatusNone;
}

template <class U, class T>
void launch_append(std::span<const AppendTask<U, T>> tasks, cudaStream_t stream) {
    constexpr int columns = columns_of<FloatPair> << append_log_packs;
    const auto batch = std::make_unique<Batch<AppendTask<U, T>, small_batch>>();
    while (!tasks.empty()) {
        const std::size_t count = std::min<std::size_t>(tasks.size(), batch->most_tasks);
        dim3 grid(1, static_cast<unsigned int>(count), 1);
        for (std::size_t i = 0; i < count; ++i) {
            const AppendTask<U, T>& task = batch->tasks[i] = tasks[i];
            const int blocks = task.heads * column_groups(task.columns(), columns);
            const Index pieces = (task.count - 1) / append_rows_per_block + 1;
            grid.x = std::max(grid.x, static_cast<unsigned int>(blocks));
            grid.z = std::max(grid.z, static_cast<unsigned int>(std::min<Index>(pieces, most_append_pieces)));
        }
        launch_kernel("cudaLaunchKernel of append_kernel", &append_kernel<FloatPair, U, T>, grid, append_threads, 0,
                      stream, *batch);
        tasks = tasks.subspan(count);
    }
}

/// `sizes` are those of all lists, on the device.
inline void change_sizes(std::span<const SizeChange> changes, std::int32_t* sizes, cudaStream_t stream) {
    const auto batch = std::make_unique<Batch<SizeChange, small_batch>>();
    while (!changes.empty()) {
        const std::size_t count = std::min<std::size_t>(changes.size(), batch->most_tasks);
        std::copy_n(changes.begin(), count, batch->tasks);
        launch_kernel("cudaLaunchKernel of change_sizes_kernel", &change_sizes_kernel<std::int32_t>,
                      dim3(static_cast<unsigned int>(count)), 1, 0, stream, *batch, sizes);
        changes = changes.subspan(count);
    }
}

inline void load_size_kernel() { load_kernel(&change_sizes_kernel<std::int32_t>); }

/// Loads the kernels above.
template <class U, class T>
void load_append_kernels() {
    load_kernel(&append_kernel<FloatPair, U, T>);
    load_size_kernel();
}

}  // namespace freqkv::cuda::detail
