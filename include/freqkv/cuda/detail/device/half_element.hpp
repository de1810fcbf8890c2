// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/stored_element.hpp"

// freqkv::Half, of which packed caches hold their scales and exact entries, as an element that a device converts, too:
// its own conversions are the host's.
namespace freqkv::cuda::detail {

template <>
FREQKV_INLINE float to_float<Half>(const Half& value) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(value.bits));
#else
    return static_cast<float>(value);
#endif
}

template <>
FREQKV_INLINE Half from_float<Half>(float value) {
#if defined(__CUDA_ARCH__)
    Half half;
    half.bits = __half_as_ushort(__float2half_rn(value));
    return half;
#else
    return Half(value);
#endif
}

template <>
FREQKV_INLINE std::uint32_t packed<Half>(float first, float second) {
    return from_float<Half>(first).bits | static_cast<std::uint32_t>(from_float<Half>(second).bits) << 16U;
}

}  // namespace freqkv::cuda::detail
