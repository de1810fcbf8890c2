// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/serial_matrix_block.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"

// In place of the header of this name, for the host.
namespace freqkv::cuda::detail {

template <class T>
class DeviceMatrixBlock : public SerialMatrixBlock<T> {
public:
    DeviceMatrixBlock() : SerialMatrixBlock<T>(static_cast<int>(emulated_shared_bytes / 16)) {}
};

}  // namespace freqkv::cuda::detail
