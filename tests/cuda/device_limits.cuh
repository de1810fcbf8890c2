// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/cuda/detail/transform/launch_shape.hpp"
#include "freqkv/cuda/detail/transform/resample_launch.cuh"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"

namespace freqkv::cuda {

/// Whether a block of this device has the shared memory for one column of the transform: up to length 8192 always on
/// data-centre GPUs, less on the GPUs of desktops.
inline bool fits_device(Index n) {
    return n <= detail::TransformTables::max_length &&
           detail::launch::fits(detail::TransformTables(n).slots(), 1, 1, detail::device_limits());
}

}  // namespace freqkv::cuda
