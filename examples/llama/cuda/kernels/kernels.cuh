// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <span>

#include "freqkv/cuda/detail/transform/resample_launch.cuh"

// The kernels of compressions take nvcc most of a minute for each element type. So kernels_*.cu compile them once for
// the program, the tests and the benchmarks; what includes this header first leaves them out.
namespace freqkv::cuda::detail {

extern template void launch_resample<float>(std::span<const ResampleTask<float>>, const LaunchShape&, cudaStream_t);
extern template void launch_resample<__half>(std::span<const ResampleTask<__half>>, const LaunchShape&, cudaStream_t);
extern template void launch_resample<__nv_bfloat16>(std::span<const ResampleTask<__nv_bfloat16>>, const LaunchShape&,
                                                    cudaStream_t);
extern template void launch_move<float>(std::span<const MoveTask<float>>, cudaStream_t);
extern template void launch_move<__half>(std::span<const MoveTask<__half>>, cudaStream_t);
extern template void launch_move<__nv_bfloat16>(std::span<const MoveTask<__nv_bfloat16>>, cudaStream_t);

extern template void load_kernels<float>();
extern template void load_kernels<__half>();
extern template void load_kernels<__nv_bfloat16>();

}  // namespace freqkv::cuda::detail
