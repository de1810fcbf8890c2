// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda::detail {

/// Throws Error unless `device`, which something was made for, is the current one.
inline void check_device(const char* what, int device) {
    const int current = current_device();
    if (device != current) {
        refuse((std::string("device of the ") + what).c_str(), std::to_string(device),
               "must be the current one, which is " + std::to_string(current));
    }
}

/// Throws Error unless a kernel on the current device can reach the memory. Null passes, as nothing.
inline void check_memory(const char* what, const char* name, const void* pointer) {
    if (pointer == nullptr) return;
    cudaPointerAttributes attributes{};
    check("cudaPointerGetAttributes", cudaPointerGetAttributes(&attributes, pointer));
    const int device = current_device();
    if (attributes.type == cudaMemoryTypeDevice && attributes.device != device) {
        int reaches = 0;
        check("cudaDeviceCanAccessPeer", cudaDeviceCanAccessPeer(&reaches, device, attributes.device));
        if (reaches == 0) {
            refuse((std::string(what) + " of " + name).c_str(), "on device " + std::to_string(attributes.device),
                   "must be on the current one, which is " + std::to_string(device));
        }
    }
    if (attributes.type != cudaMemoryTypeUnregistered) return;
    if (device_attribute(cudaDevAttrPageableMemoryAccess) == 0) {
        refuse((std::string(what) + " of " + name).c_str(), "in host memory",
               "must be on the device, managed or allocated by cudaMallocHost");
    }
}

/// What is wrong with a view by itself, its memory included.
template <class T>
Extent checked_device_extent(const char* name, const KVView<T>& view) {
    const Extent extent = checked_extent(name, view);
    check_memory("data", name, view.data);
    return extent;
}

template <class T>
void check_device_pages(const char* name, const PagedKVView<T>& view) {
    check_pages(name, view);
    check_memory("data", name, view.data);
    check_memory("block_table", name, view.block_table);
}

}  // namespace freqkv::cuda::detail
