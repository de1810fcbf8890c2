// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>

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
