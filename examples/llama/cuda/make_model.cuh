// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <memory>

#include "llama/cuda/device_llama.hpp"
#include "llama/cuda/device_weights.cuh"
#include "llama/model/config.hpp"

namespace llama {

/// The CudaLlama of the settings' policy with a cache of T, which is their type.
template <class T>
std::unique_ptr<LanguageModel> make_model(const Config& config, std::shared_ptr<const device::DeviceWeights> weights,
                                          const DeviceSettings& settings);

// In model_<type>.cu.
extern template std::unique_ptr<LanguageModel> make_model<float>(const Config&,
                                                                 std::shared_ptr<const device::DeviceWeights>,
                                                                 const DeviceSettings&);
extern template std::unique_ptr<LanguageModel> make_model<__half>(const Config&,
                                                                  std::shared_ptr<const device::DeviceWeights>,
                                                                  const DeviceSettings&);
extern template std::unique_ptr<LanguageModel> make_model<__nv_bfloat16>(const Config&,
                                                                         std::shared_ptr<const device::DeviceWeights>,
                                                                         const DeviceSettings&);

}  // namespace llama
