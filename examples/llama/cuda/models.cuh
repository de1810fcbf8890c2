// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <memory>
#include <utility>

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "kernels.cuh"
#include "llama/cuda/cuda_llama.cuh"
#include "llama/cuda/make_model.cuh"

namespace llama {

// Compiled once, in model_<type>.cu.
extern template class CudaLlama<float, freqkv::LowPass<>>;
extern template class CudaLlama<float, freqkv::LocalWindow>;
extern template class CudaLlama<float, freqkv::Full>;
extern template class CudaLlama<__half, freqkv::LowPass<>>;
extern template class CudaLlama<__half, freqkv::LocalWindow>;
extern template class CudaLlama<__half, freqkv::Full>;
extern template class CudaLlama<__nv_bfloat16, freqkv::LowPass<>>;
extern template class CudaLlama<__nv_bfloat16, freqkv::LocalWindow>;
extern template class CudaLlama<__nv_bfloat16, freqkv::Full>;

template <class T>
std::unique_ptr<DeviceLlama> make_model(const Config& config, std::shared_ptr<const device::DeviceWeights> weights,
                                        const DeviceSettings& settings) {
    const auto with = [&]<class P>(const P& policy) -> std::unique_ptr<DeviceLlama> {
        return std::make_unique<CudaLlama<T, P>>(config, std::move(weights), settings.sizes, policy, settings.chunk);
    };
    if (settings.policy == "full") return with(freqkv::Full{});
    if (settings.policy == "local-window") return with(freqkv::LocalWindow(settings.ratio));
    return with(freqkv::LowPass<>(settings.ratio));
}

}  // namespace llama
