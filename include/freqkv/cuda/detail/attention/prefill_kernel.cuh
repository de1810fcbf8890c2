// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/device_matrix_block.cuh"
#include "freqkv/cuda/detail/attention/prefill_attention.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"

namespace freqkv::cuda::detail {

/// Places of one launch.
using PrefillPlaces = Batch<PrefillPlace, small_batch>;

/// Grid: x is a KV head, y a tile of rows, z a place. The last rows, which see most, begin first.
template <class Shape, class Q, class T>
__global__ void __launch_bounds__(Shape::threads)
    prefill_kernel(const __grid_constant__ AttentionTask<Q, T> task, const __grid_constant__ PrefillPlaces places) {
    DeviceMatrixBlock<MatrixElement<T>> block;
    const int tile = static_cast<int>(gridDim.y - 1 - blockIdx.y);
    attend_rows<Shape>(task, places.tasks[blockIdx.z], static_cast<int>(blockIdx.x), tile, block);
}

}  // namespace freqkv::cuda::detail
