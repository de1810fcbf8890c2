// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/cuda/dct_plan.cuh"
#include "freqkv/cuda/detail/launch.cuh"
#include "freqkv/cuda/detail/launch_shape.hpp"

namespace freqkv::cuda {

/// Whether a block of this device has the shared memory for one column of the transform: up to length 8192 always on
/// data-centre GPUs, less on the GPUs of desktops.
inline bool fits_device(const DctPlan& plan) {
    return detail::launch::fits(plan.slots(), 1, 1, detail::device_limits());
}

}  // namespace freqkv::cuda
