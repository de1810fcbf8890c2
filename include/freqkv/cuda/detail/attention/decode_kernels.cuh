// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/decode_attention.hpp"
#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"

namespace freqkv::cuda::detail {

/// Tokens of one launch.
using TokenPlaces = Batch<TokenPlace, small_batch>;

/// Grid: x is a stretch, y a KV head and some query heads of its group, z a token. Dynamic shared memory:
/// decode_floats() floats.
template <int Heads, class Q, class T>
__global__ void __launch_bounds__(stretch_entries)
    attend_kernel(const __grid_constant__ DecodeTask<Q, T> task, const __grid_constant__ TokenPlaces places) {
    DecodeTask<Q, T> own = task;
    own.places = places.tasks;
    const int blocks_of_kv_head = (task.group + Heads - 1) / Heads;
    const int kv_head = static_cast<int>(blockIdx.y) / blocks_of_kv_head;
    const int first_head = static_cast<int>(blockIdx.y) % blocks_of_kv_head * Heads;
    attend_stretch<Heads>(own, static_cast<int>(blockIdx.z), kv_head, first_head, static_cast<int>(blockIdx.x),
                          DeviceBlock(), DeviceFloats());
}

/// Grid: x is a query head, y a token.
template <class Q, class T>
__global__ void __launch_bounds__(stretch_entries)
    combine_kernel(const __grid_constant__ DecodeTask<Q, T> task, const __grid_constant__ TokenPlaces places) {
    DecodeTask<Q, T> own = task;
    own.places = places.tasks;
    combine_stretches(own, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), DeviceBlock());
}

}  // namespace freqkv::cuda::detail
