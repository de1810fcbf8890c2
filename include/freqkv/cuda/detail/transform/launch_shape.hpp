// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <string>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"
#include "freqkv/error.hpp"

// How the kernels of a compression are launched.
namespace freqkv::cuda::detail {

/// Threads of a block at most, which leaves each the 128 registers that the largest butterflies need.
inline constexpr int most_threads = 512;

/// What a device offers.
struct DeviceLimits {
    Index shared_per_block = 0;           ///< bytes, for a kernel that asks for them
    Index shared_per_multiprocessor = 0;  ///< bytes, for all blocks that run there
};

/// The blocks of one launch.
struct LaunchShape {
    bool pairs = false;  ///< threads carry two complex columns (FloatPair), else one
    int log_packs = 0;   ///< a block has 2^log_packs times that many
    int threads = 0;
    Index shared_bytes = 0;

    int columns() const { return (pairs ? 2 : 1) << log_packs; }
};

/// Bytes of shared memory for `slots` points of `columns` complex columns, with gaps as in SharedLayout.
constexpr Index shared_bytes(Index slots, int columns) { return (slots + slots / 16) * columns * 8; }

/// Bytes of a multiprocessor's shared memory that the system takes for each block.
inline constexpr Index reserved_shared_bytes = 1024;

namespace launch {

inline bool fits(Index slots, int columns, int blocks, const DeviceLimits& limits) {
    const Index bytes = shared_bytes(slots, columns) + static_shared_bytes;
    return bytes <= limits.shared_per_block &&
           blocks * (bytes + reserved_shared_bytes) <= limits.shared_per_multiprocessor;
}

}  // namespace launch

/// Whether a thread carries two columns through the transforms of a task. That a compiler may round differently for
/// one and for two is why it depends on the task alone, not on others of its batch. Throws Error where not even one
/// column fits.
inline bool carries_pairs(Index slots, int largest_radix, int columns, const DeviceLimits& limits) {
    if (!launch::fits(slots, 1, 1, limits)) {
        refuse("length",
               "too large for the device: " + std::to_string(shared_bytes(slots, 1) + static_shared_bytes) +
                   " bytes of shared memory",
               "which may be at most " + std::to_string(limits.shared_per_block));
    }
    return largest_radix <= widest_pair_radix && columns > 1 && launch::fits(slots, 2, 1, limits);
}

/// The shape for tasks of up to `slots` points and `columns` complex columns, all of which carry pairs or not. A row's
/// columns of one block lie side by side: many of them make long pieces of memory, few leave room for a second block on
/// the multiprocessor, which computes while the first one reads. So: as many as leave that room, but 4 (16 bytes of
/// half) where less would; docs/cuda.md has the reasons. `wanted_columns` above 0 overrides that.
inline LaunchShape launch_shape(Index slots, bool pairs, int columns, const DeviceLimits& limits,
                                int wanted_columns = 0) {
    constexpr int most = 16;  // 64 bytes of half
    constexpr int enough = 4;
    constexpr int threads_of_a_warp = 32;  // of which each takes one pack
    const auto grows_to = [&](int n) {
        if (n > threads_of_a_warp) return false;
        if (wanted_columns > 0) return n <= wanted_columns && launch::fits(slots, n, 1, limits);
        return n <= most && n < 2 * columns && launch::fits(slots, n, n <= enough ? 1 : 2, limits);
    };
    LaunchShape shape;
    shape.pairs = pairs;
    while (grows_to(2 * shape.columns())) ++shape.log_packs;
    shape.shared_bytes = shared_bytes(slots, shape.columns());
    // About a radix-8 butterfly for each thread and pass; half the threads where two blocks are to share a processor.
    const Index butterflies = (slots << shape.log_packs) / 8;
    const Index threads = launch::fits(slots, shape.columns(), 2, limits) ? most_threads / 2 : most_threads;
    shape.threads = static_cast<int>(std::clamp<Index>((butterflies + 31) / 32 * 32, 32, threads));
    return shape;
}

}  // namespace freqkv::cuda::detail
