// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <memory>
#include <stdexcept>
#include <string>
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
std::unique_ptr<LanguageModel> make_model(const Config& config, std::shared_ptr<const device::DeviceWeights> weights,
                                          const DeviceSettings& settings) {
    const auto with = [&]<class P>(const P& policy) -> std::unique_ptr<LanguageModel> {
        return std::make_unique<CudaLlama<T, P>>(config, std::move(weights), settings.sizes, policy, settings.chunk);
    };
    switch (settings.policy) {
        case PolicyName::low_pass:
            return with(freqkv::LowPass<>(settings.ratio));
        case PolicyName::local_window:
            return with(freqkv::LocalWindow(settings.ratio));
        case PolicyName::full:
            return with(freqkv::Full{});
        case PolicyName::snap_kv:
        case PolicyName::tova:
        case PolicyName::heavy_hitters:
        case PolicyName::key_diff:
        case PolicyName::key_norm:
        case PolicyName::value_norm:
        case PolicyName::block_mean:
        case PolicyName::merge:
        case PolicyName::snap_kv_and_low_pass:
        case PolicyName::heavy_hitters_and_low_pass:
        case PolicyName::residual_and_low_pass:
        case PolicyName::tiers:
        case PolicyName::equal_weight:
        case PolicyName::low_pass_unscaled:
            break;
    }
    throw std::runtime_error(std::string("the policy ") + to_string(settings.policy) + " is none of a GPU's");
}

}  // namespace llama
