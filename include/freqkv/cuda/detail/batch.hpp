// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"

namespace freqkv::cuda::detail {

/// The tasks of one launch. They travel as the kernel's parameters: nothing has to be copied to the device first or
/// kept until the kernel is done, so a launch may be captured in a graph as it is.
template <class Task>
struct Batch {
    // A kernel may have 4 KiB of parameters, from CUDA 12.1 on 32764 bytes.
#if defined(CUDART_VERSION) && CUDART_VERSION < 12010
    static constexpr int limit = 4096;
#else
    static constexpr int limit = 32764;
#endif
    static constexpr int most_tasks = (limit - 64) / static_cast<int>(sizeof(Task));

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
