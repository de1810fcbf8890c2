// SPDX-License-Identifier: MIT
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "llama/cuda/activations.cuh"
#include "llama/cuda/device_blocks.cuh"
#include "llama/cuda/device_llama.hpp"
#include "llama/cuda/device_weights.cuh"
#include "llama/cuda/make_model.cuh"
#include "llama/cuda/weight_types.hpp"

namespace llama {

namespace {

using device::mebibytes;

// What a model takes, to be said in an error.
struct Needs {
    Index weights, cache, activations;
    Index capacity, chunk;

    Needs(const Checkpoint& checkpoint, const DeviceSettings& settings)
        : weights(device_bytes(checkpoint)),
          cache(cache_bytes(checkpoint.config, settings.sizes.capacity, settings.type)),
          activations(device::Activations::bytes(checkpoint.config, settings.chunk)),
          capacity(settings.sizes.capacity),
          chunk(settings.chunk) {}

    std::string text() const {
        return "the weights need " + mebibytes(weights) + " of the GPU's memory, a cache of " +
               std::to_string(capacity) + " entries " + mebibytes(cache) + " and " + std::to_string(chunk) +
               " tokens at once " + mebibytes(activations);
    }
};

// Refuses before minutes are spent on reading weights.
void check_memory(const Needs& needs) {
    std::size_t free = 0;
    std::size_t total = 0;
    freqkv::cuda::check("cudaMemGetInfo", cudaMemGetInfo(&free, &total));
    Index left = static_cast<Index>(free);
    for (const Index bytes : {needs.weights, needs.cache, needs.activations}) {
        if (bytes > left) {
            throw std::runtime_error(
                needs.text() + ", but " + mebibytes(static_cast<Index>(free)) +
                " are free; a smaller --capacity or --prefill-chunk, a shorter text under --policy full or a 16-bit "
                "--cache-type needs less");
        }
        left -= bytes;
    }
}

}  // namespace

void check_device() {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess) {
        (void)cudaGetLastError();
        throw std::runtime_error(std::string("there is no CUDA device (") + cudaGetErrorString(status) + ")");
    }
    if (devices == 0) throw std::runtime_error("there is no CUDA device");
    try {
        device::check_code();
    } catch (const freqkv::cuda::CudaError& error) {
        throw std::runtime_error(std::string("this program was not compiled for the GPU (") + error.what() +
                                 "); CMAKE_CUDA_ARCHITECTURES=native does so");
    }
}

std::unique_ptr<LanguageModel> open_device_llama(const Checkpoint& checkpoint, const DeviceSettings& settings) {
    check_device();
    const Needs needs(checkpoint, settings);
    check_memory(needs);
    try {
        auto weights = std::make_shared<const device::DeviceWeights>(checkpoint);
        switch (settings.type) {
            case CacheType::f32:
                return make_model<float>(checkpoint.config, weights, settings);
            case CacheType::f16:
                return make_model<__half>(checkpoint.config, weights, settings);
            case CacheType::bf16:
                return make_model<__nv_bfloat16>(checkpoint.config, weights, settings);
            case CacheType::q8:
            case CacheType::q4:
            case CacheType::q2:
                break;
        }
        throw std::invalid_argument("no such type of a cache");
    } catch (const freqkv::cuda::CudaError& error) {
        if (error.status() != cudaErrorMemoryAllocation) throw;
        throw std::runtime_error("the GPU is out of memory: " + needs.text());
    }
}

}  // namespace llama
