// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/device_attributes.cuh"
#include "freqkv/cuda/status.cuh"

namespace freqkv::cuda::detail {

/// The compute capability that a kernel was compiled for: 80 for compute_80. A program may have code for several; this
/// is the one that the device runs. Loads the kernel.
template <class... Parameters>
int compiled_for(void (*kernel)(Parameters...)) {
    cudaFuncAttributes attributes{};
    check("cudaFuncGetAttributes", cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)));
    return attributes.ptxVersion;
}

/// Has the driver load a kernel, which it does otherwise at the first launch, and may not while a stream is captured.
template <class... Parameters>
void load_kernel(void (*kernel)(Parameters...)) {
    (void)compiled_for(kernel);
}

/// What every kernel may have beside static_shared_bytes.
inline constexpr Index shared_bytes_without_asking = 48 * 1024 - static_shared_bytes;

/// Launches kernel(arguments...), which are of exactly its parameters' types. Throws CudaError with `call`.
template <class... Parameters>
void launch_kernel(const char* call, void (*kernel)(Parameters...), dim3 grid, Index threads, Index shared_bytes,
                   cudaStream_t stream, std::add_const_t<std::remove_const_t<Parameters>>&... arguments) {
    const auto* const function = reinterpret_cast<const void*>(kernel);
    // A property of the kernel, not of the launch: always the same value, so that threads and graphs do not take it
    // from each other.
    if (shared_bytes > shared_bytes_without_asking) {
        const Index most = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - static_shared_bytes;
        check("cudaFuncSetAttribute",
              cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most)));
    }
    void* parameters[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    check(call, cudaLaunchKernel(function, grid, dim3(static_cast<unsigned int>(threads)), parameters,
                                 static_cast<std::size_t>(shared_bytes), stream));
}

}  // namespace freqkv::cuda::detail
