// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include "freqkv/config.hpp"

// For kernels whose arrays of registers have to stay in registers. GCC keeps them there only where nothing
// indexes them at run time, not even before it unrolls a loop, and where all is inlined.
#define FREQKV_INLINE_LAMBDA __attribute__((always_inline))
#define FREQKV_INLINE FREQKV_HOST_DEVICE FREQKV_INLINE_LAMBDA inline
#if defined(__CUDACC__)
#define FREQKV_OUT_OF_LINE __host__ __device__ __noinline__
#else
#define FREQKV_OUT_OF_LINE __attribute__((noinline))
#endif

namespace freqkv::detail {

/// An integral constant, also on a device.
template <Index I>
struct Constant {
    static constexpr Index value = I;
    FREQKV_INLINE constexpr operator Index() const { return I; }
};

template <class F, Index... I>
FREQKV_INLINE constexpr void unrolled(F&& f, std::integer_sequence<Index, I...>) {
    (f(Constant<I>{}), ...);
}

/// f(i) for i = 0 ... N - 1 as constants.
template <Index N, class F>
FREQKV_INLINE constexpr void unrolled(F&& f) {
    unrolled(f, std::make_integer_sequence<Index, N>{});
}

/// f(size, first) for [0, count) in blocks of N, and what is left in blocks of N / 2, N / 4, ... 1; `size` is a
/// constant.
template <Index N, class F>
void in_halves(Index count, F&& f, Index first = 0) {
    for (; first + N <= count; first += N) f(Constant<N>{}, first);
    if constexpr (N > 1) in_halves<N / 2>(count, f, first);
}

}  // namespace freqkv::detail
