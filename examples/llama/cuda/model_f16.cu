// SPDX-License-Identifier: MIT
#include "llama/cuda/models.cuh"

namespace llama {

template class CudaLlama<__half, freqkv::LowPass<>>;
template class CudaLlama<__half, freqkv::LocalWindow>;
template class CudaLlama<__half, freqkv::Full>;

template std::unique_ptr<LanguageModel> make_model<__half>(const Config&, std::shared_ptr<const device::DeviceWeights>,
                                                           const DeviceSettings&);

}  // namespace llama
