// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>
#include <utility>

#include "freqkv/config.hpp"

// For kernels whose arrays of registers have to stay in registers. GCC keeps them there only where nothing
// indexes them at run time, not even before it unrolls a loop, and where all is inlined.
#define FREQKV_INLINE_LAMBDA __attribute__((always_inline))
#define FREQKV_INLINE FREQKV_HOST_DEVICE FREQKV_INLINE_LAMBDA inline

namespace freqkv::detail {

template <class F, Index... I>
FREQKV_INLINE constexpr void unrolled(F&& f, std::integer_sequence<Index, I...>) {
    (f(std::integral_constant<Index, I>{}), ...);
}

/// f(i) for i = 0 ... N - 1 as integral constants.
template <Index N, class F>
FREQKV_INLINE constexpr void unrolled(F&& f) {
    unrolled(f, std::make_integer_sequence<Index, N>{});
}

}  // namespace freqkv::detail
