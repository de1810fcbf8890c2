// SPDX-License-Identifier: MIT
#include "llama/cuda/models.cuh"

namespace llama {

template class CudaLlama<float, freqkv::LowPass<>>;
template class CudaLlama<float, freqkv::LocalWindow>;
template class CudaLlama<float, freqkv::Full>;

template std::unique_ptr<LanguageModel> make_model<float>(const Config&, std::shared_ptr<const device::DeviceWeights>,
                                                          const DeviceSettings&);

}  // namespace llama
