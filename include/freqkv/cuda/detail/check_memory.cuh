// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/check_views.hpp"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"

namespace freqkv::cuda::detail {

/// Throws Error unless a kernel can reach the memory. Null passes, as nothing.
inline void check_memory(const char* what, const char* name, const void* pointer) {
    if (pointer == nullptr) return;
    cudaPointerAttributes attributes{};
    check("cudaPointerGetAttributes", cudaPointerGetAttributes(&attributes, pointer));
    if (attributes.type != cudaMemoryTypeUnregistered) return;
    int device = 0;
    int reaches_all_memory = 0;
    check("cudaGetDevice", cudaGetDevice(&device));
    check("cudaDeviceGetAttribute",
          cudaDeviceGetAttribute(&reaches_all_memory, cudaDevAttrPageableMemoryAccess, device));
    if (reaches_all_memory == 0) {
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
