// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/decode_kernels.cuh"
#include "freqkv/cuda/detail/attention/prefill_kernel.cuh"
#include "freqkv/cuda/detail/cache/feed.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/device_attributes.cuh"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/error.hpp"

namespace freqkv::cuda::detail {

/// Blocks of a launch along y and z.
inline constexpr Index most_grid_rows = 65535;

// --- tokens by themselves

inline Index decode_bytes(int heads, int key_dim, int value_dim) {
    return heads * Index{decode_floats(1, key_dim, value_dim)} * static_cast<Index>(sizeof(float));
}

/// Query heads that a block takes together: those of a group, up to 8, or as many as the device has shared memory for.
/// Throws Error where that is not even one.
inline int decode_heads(int group, int key_dim, int value_dim) {
    const Index room = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - static_shared_bytes;
    int heads = group == 1 ? 1 : group == 2 ? 2 : group <= 4 ? 4 : 8;
    while (heads > 1 && decode_bytes(heads, key_dim, value_dim) > room) heads /= 2;
    const Index bytes = decode_bytes(heads, key_dim, value_dim);
    if (bytes > room) {
        refuse("key_dim and value_dim",
               std::to_string(key_dim) + " and " + std::to_string(value_dim) + ", for which attention needs " +
                   std::to_string(bytes) + " bytes of a block's shared memory",
               "must be smaller: the device has " + std::to_string(room));
    }
    return heads;
}

/// Throws Error for what launch_decode() cannot launch.
inline void check_decode(Index kv_heads, Index group, Index key_dim, Index value_dim) {
    require(group < Index{1} << 31, "query heads of a KV head", group, "must be below 2^31");
    const int heads = decode_heads(static_cast<int>(group), static_cast<int>(key_dim), static_cast<int>(value_dim));
    const Index blocks = checked_product("blocks of attention", kv_heads, (group + heads - 1) / heads);
    require(blocks <= most_grid_rows, "kv_heads", kv_heads,
            "must be fewer: attention takes at most 65535 blocks of heads");
}

template <class U, class T>
auto attend_kernel_for(int heads) {
    return heads == 1   ? &attend_kernel<1, U, T>
           : heads == 2 ? &attend_kernel<2, U, T>
           : heads == 4 ? &attend_kernel<4, U, T>
                        : &attend_kernel<8, U, T>;
}

template <class U, class T>
void launch_decode(const DecodeTask<U, T>& task, const TokenPlaces& places, cudaStream_t stream) {
    const int heads = decode_heads(task.group, task.key_dim, task.value_dim);
    const int blocks_of_kv_head = (task.group + heads - 1) / heads;
    launch_kernel(
        "cudaLaunchKernel of attend_kernel", attend_kernel_for<U, T>(heads),
        dim3(static_cast<unsigned int>(task.stretches()), static_cast<unsigned int>(task.kv_heads * blocks_of_kv_head),
             static_cast<unsigned int>(task.tokens)),
        stretch_entries, decode_bytes(heads, task.key_dim, task.value_dim), stream, task, places);
    launch_kernel("cudaLaunchKernel of combine_kernel", &combine_kernel<U, T>,
                  dim3(static_cast<unsigned int>(task.query_heads()), static_cast<unsigned int>(task.tokens)),
                  stretch_entries, 0, stream, task, places);
}

template <class U, class T>
void load_decode_kernels(int heads) {
    load_kernel(attend_kernel_for<U, T>(heads));
    load_kernel(&combine_kernel<U, T>);
}

// --- chunks of tokens, on tensor cores

/// Whether there is a kernel for heads of such dimensions.
constexpr bool has_prefill(Index key_dim, Index value_dim) {
    return key_dim == value_dim && (key_dim == 64 || key_dim == 128);
}

/// Whether `tokens` tokens go to the prefill kernel where there is one: a few keep a device busy only if their entries
/// are split among blocks, and with fewer rows most of a block's would be empty.
inline bool is_prefill(Index tokens, Index group) { return tokens >= 16 && tokens * group >= 64; }

/// Calls f with the PrefillShape for heads of `dim` dimensions.
template <class F>
void with_prefill_shape(Index dim, const F& f) {
    dim == 64 ? f(PrefillShape<64>{}) : f(PrefillShape<128>{});
}

template <class U, class T>
void launch_prefill(const AttentionTask<U, T>& task, std::span<const FeedPiece> pieces, cudaStream_t stream) {
    with_prefill_shape(task.key_dim, [&]<class Shape>(Shape) {
        const Index most_tokens = most_grid_rows * Shape::rows / task.group;  // of a launch
        const auto places = std::make_unique<PrefillPlaces>();
        Index count = 0;
        Index longest = 0;
        const auto launch = [&] {
            const Index tiles = (longest * task.group + Shape::rows - 1) / Shape::rows;
            launch_kernel("cudaLaunchKernel of prefill_kernel", &prefill_kernel<Shape, U, T>,
                          dim3(static_cast<unsigned int>(task.kv_heads), static_cast<unsigned int>(tiles),
                               static_cast<unsigned int>(count)),
                          Shape::threads, Shape::shared_bytes, stream, task, *places);
            count = 0;
            longest = 0;
        };
        for (const FeedPiece& piece : pieces) {
            for (Index behind = 0; behind < piece.count; behind += most_tokens) {
                const Index tokens = std::min(most_tokens, piece.count - behind);
                places->tasks[count++] = {static_cast<std::int32_t>(piece.sequence),
                                          static_cast<std::int32_t>(piece.first + behind),
                                          static_cast<std::int32_t>(behind), static_cast<std::int32_t>(tokens)};
                longest = std::max(longest, tokens);
                if (count == PrefillPlaces::most_tasks) launch();
            }
        }
        if (count > 0) launch();
    });
}

/// Whether the device has code with tensor cores for heads of `dim` dimensions: a program that was compiled for 7.5
/// alone runs on later devices, too, but without. Loads the kernel.
template <class U, class T>
bool prefill_is_compiled(Index dim) {
    bool is = false;
    with_prefill_shape(dim, [&]<class Shape>(Shape) { is = compiled_for(&prefill_kernel<Shape, U, T>) >= 80; });
    return is;
}

}  // namespace freqkv::cuda::detail
