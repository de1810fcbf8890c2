// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>

#include "emulated_runtime.hpp"
#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/device_attributes.cuh"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/status.cuh"

// In place of the header of this name: a launch calls the kernel for every block, with copies of its arguments.
namespace freqkv::cuda::detail {

template <class... Parameters>
void load_kernel(void (*)(Parameters...)) {}

template <class... Parameters>
int compiled_for(void (*)(Parameters...)) {
    return 90;
}

template <class... Parameters>
void launch_kernel(const char* call, void (*kernel)(Parameters...), dim3 grid, Index threads, Index shared_bytes,
                   cudaStream_t stream, std::add_const_t<std::remove_const_t<Parameters>>&... arguments) {
    static_assert((sizeof(Parameters) + ...) <= 32764, "more parameters than a kernel may have");
    const auto copies = std::make_shared<std::tuple<std::remove_const_t<Parameters>...>>(arguments...);
    const auto run = [=] {
        gridDim = grid;
        emulated_shared_bytes = static_cast<std::size_t>(shared_bytes);
        for (unsigned int z = 0; z < grid.z; ++z) {
            for (unsigned int y = 0; y < grid.y; ++y) {
                for (unsigned int x = 0; x < grid.x; ++x) {
                    blockIdx = {x, y, z};
                    emulated_shared_memory.reset(new std::byte[emulated_shared_bytes]);
                    std::memset(emulated_shared_memory.get(), 0xff, emulated_shared_bytes);
                    std::apply(kernel, *copies);
                    emulated_shared_memory.reset();
                }
            }
        }
    };
    check(call, emulated_launch({grid, static_cast<unsigned int>(threads), static_cast<std::size_t>(shared_bytes)},
                                stream, run));
}

}  // namespace freqkv::cuda::detail
