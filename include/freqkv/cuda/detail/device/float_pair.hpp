// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/detail/transform/butterflies.hpp"

namespace freqkv::cuda::detail {

using freqkv::detail::Complex;

/// Two neighbouring columns that one thread carries together: they share addresses and twiddle factors, and a
/// complex point of both is one 16-byte access.
struct FloatPair {
    float values[2];

    FREQKV_INLINE float& operator[](int i) { return values[i]; }
    FREQKV_INLINE const float& operator[](int i) const { return values[i]; }

    FREQKV_INLINE friend FloatPair operator+(const FloatPair& a, const FloatPair& b) {
        return {{a[0] + b[0], a[1] + b[1]}};
    }
    FREQKV_INLINE friend FloatPair operator-(const FloatPair& a, const FloatPair& b) {
        return {{a[0] - b[0], a[1] - b[1]}};
    }
    FREQKV_INLINE friend FloatPair operator-(const FloatPair& a) { return {{-a[0], -a[1]}}; }
    FREQKV_INLINE friend FloatPair operator*(float a, const FloatPair& b) { return {{a * b[0], a * b[1]}}; }
    FREQKV_INLINE friend FloatPair operator*(const FloatPair& a, float b) { return {{a[0] * b, a[1] * b}}; }
};

/// Columns in V, which is float or FloatPair.
template <class V>
inline constexpr int columns_of = sizeof(V) / sizeof(float);

/// Column i of V.
FREQKV_INLINE float& column(float& v, int /*i*/) { return v; }
FREQKV_INLINE float& column(FloatPair& v, int i) { return v[i]; }
FREQKV_INLINE float column(const float& v, int /*i*/) { return v; }
FREQKV_INLINE float column(const FloatPair& v, int i) { return v[i]; }

}  // namespace freqkv::cuda::detail
