// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#if defined(__F16C__) && defined(__AVX__)
#include <immintrin.h>
#endif

#include <Eigen/Core>

#include "freqkv/config.hpp"

// Rows of stored elements as rows of the arithmetic type.
namespace freqkv::detail {

// Converts `count` elements. Eigen 3.4 does not vectorise casts, hence the two special cases.
template <class T, class C>
void convert_row(const T* from, Index count, C* to) {
    Index i = 0;
    if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
        for (; i < count; ++i) {
            to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(Eigen::numext::bit_cast<std::uint16_t>(from[i]))
                                         << 16U);
        }
    }
#if defined(__F16C__) && defined(__AVX__)
    if constexpr (std::is_same_v<T, Eigen::half>) {
        for (; i + 8 <= count; i += 8) {
            _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
        }
    }
#endif
    for (; i < count; ++i) to[i] = static_cast<C>(from[i]);
}

// The row itself where it needs no conversion, else `scratch` (`count` elements), filled.
template <class T, class C>
const C* as_arithmetic(const T* row, Index count, C* scratch) {
    if constexpr (std::is_same_v<T, C>) {
        return row;
    } else {
        convert_row(row, count, scratch);
        return scratch;
    }
}

}  // namespace freqkv::detail
