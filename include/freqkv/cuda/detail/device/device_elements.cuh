// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/stored_element.hpp"

// CUDA's 16-bit types by their functions: programs may have switched off their conversions, as PyTorch's extensions do.
namespace freqkv {

template <>
struct StoredElement<__half> {
    using Arithmetic = float;
    static constexpr bool has_row_scale = false;
    FREQKV_INLINE static float to_arithmetic(__half value) { return __half2float(value); }
    FREQKV_INLINE static __half from_arithmetic(float value) { return __float2half_rn(value); }
};

template <>
struct StoredElement<__nv_bfloat16> {
    using Arithmetic = float;
    static constexpr bool has_row_scale = false;
    FREQKV_INLINE static float to_arithmetic(__nv_bfloat16 value) { return __bfloat162float(value); }
    FREQKV_INLINE static __nv_bfloat16 from_arithmetic(float value) { return __float2bfloat16_rn(value); }
};

}  // namespace freqkv

namespace freqkv::cuda::detail {

template <>
FREQKV_INLINE std::uint32_t packed<__half>(float first, float second) {
    const auto pair = __floats2half2_rn(first, second);
    std::uint32_t word;
    std::memcpy(&word, &pair, sizeof(word));
    return word;
}

template <>
FREQKV_INLINE std::uint32_t packed<__nv_bfloat16>(float first, float second) {
    const auto pair = __floats2bfloat162_rn(first, second);
    std::uint32_t word;
    std::memcpy(&word, &pair, sizeof(word));
    return word;
}

// Instantiated where an element type is given, so that the compiler's message is a sentence.
template <class T>
consteval bool check_element() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>,
                  "freqkv: elements on a device are float, __half or __nv_bfloat16");
    return true;
}
// Of a cache.
template <class T>
consteval bool check_cached() {
    static_assert(
        std::is_same_v<T, float> || std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16> || is_packed<T>,
        "freqkv: elements on a device are float, __half or __nv_bfloat16, and those of a cache may be Packed");
    return true;
}

}  // namespace freqkv::cuda::detail
