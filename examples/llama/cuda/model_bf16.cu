// SPDX-License-Identifier: MIT
#include "llama/cuda/models.cuh"

namespace llama {

template class CudaLlama<__nv_bfloat16, freqkv::LowPass<>>;
template class CudaLlama<__nv_bfloat16, freqkv::LocalWindow>;
template class CudaLlama<__nv_bfloat16, freqkv::Full>;

template std::unique_ptr<LanguageModel> make_model<__nv_bfloat16>(const Config&,
                                                                  std::shared_ptr<const device::DeviceWeights>,
                                                                  const DeviceSettings&);

}  // namespace llama
