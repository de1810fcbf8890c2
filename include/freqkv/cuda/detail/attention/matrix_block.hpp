// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"

// What prefill_attention.hpp is written against: a block of threads with tensor cores. On a device that is
// device_matrix_block.cuh; the host's tests check every access.
namespace freqkv::cuda::detail {

/// How a warp holds four matrices of 8 x 8 elements of 16 bits.
struct Fragments {
    std::uint32_t words[4];
};

/// How a thread holds 16 x 8 sums: two neighbouring columns, of row lane / 4 and of the row 8 below.
struct Sums {
    float values[4];
};

/// A value for each row of which a thread holds sums: 2 for each tile of 16 rows.
template <int RowTiles>
struct RowValues {
    static constexpr int count = 2 * RowTiles;
    float values[2 * RowTiles];
};

// What the concept below calls a block's functions with.
namespace matrix_block_archetype {

template <class Thread>
struct Call {
    FREQKV_HOST_DEVICE void operator()(const Thread& thread) const;
};
struct ChunkOf {
    FREQKV_HOST_DEVICE int operator()(int lane, int warp) const;
};

}  // namespace matrix_block_archetype

/// What one thread of a block knows of itself.
template <class Thread>
concept MatrixThread = requires(const Thread& thread) {
    { thread.index } -> std::convertible_to<int>;
    { thread.lane() } -> std::convertible_to<int>;
    { thread.warp() } -> std::convertible_to<int>;
};

/// A block of threads with tensor cores. Registers<X> are an X for each thread, which registers(thread) gives. Shared
/// memory holds elements T of 16 bits, in chunks of 8.
///
///   each(f)                           f(thread) for all threads
///   barrier()                         what a thread wrote to shared memory is read by others behind it only
///   store(thread, element, x)         writes one element of shared memory
///   store(thread, chunk, eight)       writes a chunk
///   copy(thread, chunk, from, inside) begins to copy 8 elements to a chunk of shared memory; zeros unless `inside`
///   wait()                            every thread waits for its own copies
///   load(fragments, chunk_of)         each warp loads four 8 x 8 matrices from shared memory. Row lane % 8 of matrix
///                                     lane / 8 is the chunk chunk_of(lane, warp)
///   load_transposed(...)              the same, each matrix transposed
///   multiply<I>(sums, a, b)           each warp adds a product to its 16 x 8 sums. The left factor is the 16 x 16
///                                     elements a, the right one the 16 x 8 in matrices 2 I and 2 I + 1 of b
///   quad_max(x), quad_sum(x)          combine RowValues among the four threads that share rows of sums
///   exp2(x)                           2^x
template <class B, class T>
concept MatrixBlock =
    MatrixThread<typename B::Thread> &&
    requires(B& block, const typename B::Thread& thread, int i, const T& element, const Elements<T, 8>& chunk,
             const T* from, typename B::template Registers<Fragments>& fragments,
             typename B::template Registers<Sums>& sums, typename B::template Registers<RowValues<2>>& rows) {
        { fragments(thread) } -> std::same_as<Fragments&>;
        block.each(matrix_block_archetype::Call<typename B::Thread>{});
        block.barrier();
        block.store(thread, i, element);
        block.store(thread, i, chunk);
        block.copy(thread, i, from, true);
        block.wait();
        block.load(fragments, matrix_block_archetype::ChunkOf{});
        block.load_transposed(fragments, matrix_block_archetype::ChunkOf{});
        block.template multiply<1>(sums, fragments, fragments);
        block.quad_max(rows);
        block.quad_sum(rows);
        { block.exp2(1.0F) } -> std::same_as<float>;
    };

}  // namespace freqkv::cuda::detail
