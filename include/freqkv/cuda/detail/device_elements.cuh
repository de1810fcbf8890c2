// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/entry_rows.hpp"

// CUDA's 16-bit types by their functions: programs may have switched off their conversions, as PyTorch's extensions do.
namespace freqkv::cuda::detail {

template <>
struct ElementConversion<__half> {
    FREQKV_INLINE static float to_float(__half value) { return __half2float(value); }
    FREQKV_INLINE static std::uint32_t packed(float first, float second) {
        const auto pair = __floats2half2_rn(first, second);
        return reinterpret_cast<const std::uint32_t&>(pair);
    }
    FREQKV_INLINE static __half from_float(float value) { return __float2half_rn(value); }
};

template <>
struct ElementConversion<__nv_bfloat16> {
    FREQKV_INLINE static float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
    FREQKV_INLINE static std::uint32_t packed(float first, float second) {
        const auto pair = __floats2bfloat162_rn(first, second);
        return reinterpret_cast<const std::uint32_t&>(pair);
    }
    FREQKV_INLINE static __nv_bfloat16 from_float(float value) { return __float2bfloat16_rn(value); }
};

}  // namespace freqkv::cuda::detail
