// SPDX-License-Identifier: MIT
#include "kernels.cuh"

namespace freqkv::cuda::detail {

template void launch_resample<__half>(std::span<const ResampleTask<__half>>, const LaunchShape&, cudaStream_t);
template void launch_move<__half>(std::span<const MoveTask<__half>>, cudaStream_t);
template void load_kernels<__half>();

}  // namespace freqkv::cuda::detail
