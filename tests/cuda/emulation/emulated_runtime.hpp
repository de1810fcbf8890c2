// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

/// What the emulated device does besides, for tests of errors and of how much is launched.
struct EmulatedDevice {
    cudaError_t missing = cudaSuccess;  ///< other than success: there is no device, and calls that need one return this
    int current = 0;                    ///< the current device; memory is that of device 0
    long long allocations_left = 1LL << 40;  ///< further ones find no memory; freeing gives one back
    long long launches = 0;                  ///< so far
};
EmulatedDevice& emulated_device();

/// The shape of a launch, which is refused as the runtime refuses it.
struct EmulatedLaunch {
    dim3 grid;
    unsigned int threads;
    std::size_t shared_bytes;
};

/// Calls `work`, or keeps it for the graph that the stream is captured in.
cudaError_t emulated_launch(const EmulatedLaunch& launch, cudaStream_t stream, std::function<void()> work);

/// From now on the device has that much memory left.
void emulate_free_memory(std::size_t bytes);
