// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/cache/convert_rows.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/device_attributes.cuh"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/error.hpp"

namespace freqkv::cuda::detail {

inline constexpr int convert_threads = 128;

/// Grid: x is a head, y a task, z every so many-th piece of its rows. Dynamic shared memory: `block_rows` rows.
template <class In, class Out>
__global__ void __launch_bounds__(convert_threads)
    convert_kernel(const __grid_constant__ Batch<ConvertTask<In, Out>, small_batch> batch, const int block_rows) {
    const ConvertTask<In, Out>& task = batch.tasks[blockIdx.y];
    const auto head = static_cast<int>(blockIdx.x);
    if (head >= task.heads) return;
    const int pieces = (task.count + block_rows - 1) / block_rows;
    for (auto piece = static_cast<int>(blockIdx.z); piece < pieces; piece += static_cast<int>(gridDim.z)) {
        const int first = piece * block_rows;
        const int left = task.count - first;
        convert_rows(task, head, first, left < block_rows ? left : block_rows, DeviceBlock(), DeviceFloats());
    }
}

/// Rows that a block of convert_kernel takes together: some 16 KiB of them.
inline int convert_block_rows(int dim) { return std::clamp(4096 / dim, 1, 16); }

inline Index convert_bytes(int dim) {
    return Index{convert_block_rows(dim)} * RowBuffer{dim}.row_floats() * static_cast<Index>(sizeof(float));
}

/// Throws Error unless rows of `dim` elements fit the device's shared memory.
inline void check_convert(const char* what, Index dim) {
    const Index room = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - static_shared_bytes;
    const Index bytes = convert_bytes(static_cast<int>(dim));
    if (bytes > room) {
        refuse(what, std::to_string(dim),
               "must be smaller: a packed row has to fit a block's shared memory, which is " + std::to_string(room) +
                   " bytes");
    }
}

template <class In, class Out>
void launch_convert(std::span<const ConvertTask<In, Out>> tasks, cudaStream_t stream) {
    constexpr Index most_pieces = 65535;
    const auto batch = std::make_unique<Batch<ConvertTask<In, Out>, small_batch>>();
    while (!tasks.empty()) {
        const std::size_t count = std::min<std::size_t>(tasks.size(), batch->most_tasks);
        std::copy_n(tasks.begin(), count, batch->tasks);
        int heads = 1;
        int dim = 1;
        Index rows = 1;
        for (std::size_t i = 0; i < count; ++i) {
            heads = std::max(heads, tasks[i].heads);
            dim = std::max(dim, tasks[i].dim());
            rows = std::max<Index>(rows, tasks[i].count);
        }
        const int block_rows = convert_block_rows(dim);
        const Index pieces = std::min<Index>((rows + block_rows - 1) / block_rows, most_pieces);
        launch_kernel(
            "cudaLaunchKernel of convert_kernel", &convert_kernel<In, Out>,
            dim3(static_cast<unsigned int>(heads), static_cast<unsigned int>(count), static_cast<unsigned int>(pieces)),
            convert_threads, convert_bytes(dim), stream, *batch, block_rows);
        tasks = tasks.subspan(count);
    }
}

/// Loads the kernel.
template <class In, class Out>
void load_convert_kernel() {
    load_kernel(&convert_kernel<In, Out>);
}

}  // namespace freqkv::cuda::detail
