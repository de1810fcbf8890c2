// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"

namespace freqkv::cuda::detail {

// A kernel may have 4 KiB of parameters, from CUDA 12.1 on 32764 bytes; some of them are others than a batch.
#if defined(CUDART_VERSION) && CUDART_VERSION < 12010
inline constexpr int large_batch = 4096 - 256;
#else
inline constexpr int large_batch = 32764 - 256;
#endif
inline constexpr int small_batch = 4096 - 256;

/// The tasks of one launch. They travel as the kernel's parameters: nothing has to be copied to the device first or
/// kept until the kernel is done, so a launch may be captured in a graph as it is. Small ones are for what happens for
/// every token.
template <class Task, int Bytes = large_batch>
struct Batch {
    static constexpr int most_tasks = Bytes / static_cast<int>(sizeof(Task));

    Task tasks[most_tasks];
};

/// What block x of a task does: a head, and a group of complex columns.
struct BlockWork {
    int head, group, groups;
};

FREQKV_HOST_DEVICE inline int column_groups(int columns, int columns_per_block) {
    return (columns + columns_per_block - 1) / columns_per_block;
}

FREQKV_HOST_DEVICE inline BlockWork work_of_block(int block, int columns, int columns_per_block) {
    const int groups = column_groups(columns, columns_per_block);
    return {block / groups, block % groups, groups};
}

}  // namespace freqkv::cuda::detail
