// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

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

/// Launches kernel(arguments...), which are of exactly its parameters' types. Throws CudaError with `call`.
template <class... Parameters>
void launch_kernel(const char* call, void (*kernel)(Parameters...), dim3 grid, Index threads, Index shared_bytes,
                   cudaStream_t stream, std::add_const_t<std::remove_const_t<Parameters>>&... arguments) {
    const auto* const function = reinterpret_cast<const void*>(kernel);
    check("cudaFuncSetAttribute",
          cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
    void* parameters[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    check(call, cudaLaunchKernel(function, grid, dim3(static_cast<unsigned int>(threads)), parameters,
                                 static_cast<std::size_t>(shared_bytes), stream));
}

}  // namespace freqkv::cuda::detail
