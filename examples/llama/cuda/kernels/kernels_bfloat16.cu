// SPDX-License-Identifier: MIT
#include "kernels.cuh"

namespace freqkv::cuda::detail {

template void launch_resample<__nv_bfloat16>(std::span<const ResampleTask<__nv_bfloat16>>, const LaunchShape&,
                                             cudaStream_t);
template void launch_move<__nv_bfloat16>(std::span<const MoveTask<__nv_bfloat16>>, cudaStream_t);
template void load_kernels<__nv_bfloat16>();

}  // namespace freqkv::cuda::detail
