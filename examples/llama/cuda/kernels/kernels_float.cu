// SPDX-License-Identifier: MIT
#include "kernels.cuh"

namespace freqkv::cuda::detail {

template void launch_resample<float>(std::span<const ResampleTask<float>>, const LaunchShape&, cudaStream_t);
template void launch_move<float>(std::span<const MoveTask<float>>, cudaStream_t);
template void load_kernels<float>();

}  // namespace freqkv::cuda::detail
