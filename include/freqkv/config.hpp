// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <type_traits>

/// Marks what also runs on a device when a CUDA compiler reads it; empty otherwise.
#if defined(__CUDACC__)
#define FREQKV_HOST_DEVICE __host__ __device__
#else
#define FREQKV_HOST_DEVICE
#endif

namespace freqkv {

/// Every size, stride, count and position. Signed, so that differences are safe; 64-bit, so that a
/// cache of many heads and a long context cannot overflow an offset.
using Index = std::int64_t;

/// The type in which a stored T is computed with: double for double, float for everything else
/// (float itself and the 16-bit types).
template <class T>
using Arithmetic = std::conditional_t<std::is_same_v<std::remove_cv_t<T>, double>, double, float>;

}  // namespace freqkv
