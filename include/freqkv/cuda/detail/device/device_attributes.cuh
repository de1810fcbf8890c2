// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "freqkv/config.hpp"
#include "freqkv/cuda/status.cuh"

namespace freqkv::cuda::detail {

inline int current_device() {
    int device = 0;
    check("cudaGetDevice", cudaGetDevice(&device));
    return device;
}

inline Index device_attribute(cudaDeviceAttr attribute) {
    int value = 0;
    check("cudaDeviceGetAttribute", cudaDeviceGetAttribute(&value, attribute, current_device()));
    return value;
}

}  // namespace freqkv::cuda::detail
