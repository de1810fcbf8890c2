// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <type_traits>
#include <utility>

#if defined(__F16C__) || defined(__AVX512BW__)
#include <immintrin.h>
#endif

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/stored_element.hpp"

#if !defined(__GNUC__)
#error "freqkv computes with the vector extensions of GCC and Clang"
#endif

// A vector register of float or double (the vector extension of GCC and Clang: + - * with scalars too), and
// stored elements as such registers.
namespace freqkv::detail::inline FREQKV_ISA {

inline constexpr int register_bytes =
#if defined(__AVX512F__)
    64;
#elif defined(__AVX__)
    32;
#else
    16;
#endif

/// Elements of one register.
template <class C>
inline constexpr Index lane_count = register_bytes / static_cast<Index>(sizeof(C));

template <class C>
struct LanesOf {
    using type [[gnu::vector_size(register_bytes)]] = C;
};
template <class C>
using Lanes = typename LanesOf<C>::type;

// As many 16-bit elements as a register has floats.
using ShortLanes [[gnu::vector_size(register_bytes / 2)]] = std::uint16_t;
using WordLanes [[gnu::vector_size(register_bytes)]] = std::uint32_t;

using DoubleWordLanes [[gnu::vector_size(register_bytes)]] = std::uint64_t;

// A 32-bit integer for each lane.
template <class C>
struct IntLanesOf {
    using type [[gnu::vector_size(register_bytes / sizeof(C) * 4)]] = std::int32_t;
};
template <class C>
using IntLanes = typename IntLanesOf<C>::type;

/// Registers there are.
inline constexpr Index register_count =
#if defined(__AVX512F__)
    32;
#else
    16;
#endif

/// `count` rounded up to whole registers.
template <class C>
constexpr Index whole_lanes(Index count) {
    return (count + lane_count<C> - 1) / lane_count<C> * lane_count<C>;
}

// Where GCC 12 sees a small array and not the loop's bound, it warns of accesses that never happen.
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#endif

template <class V>
V load_bits(const void* from) {
    V bits;
    std::memcpy(&bits, from, sizeof bits);
    return bits;
}

template <class V>
void store_bits(void* to, const V& bits) {
    std::memcpy(to, &bits, sizeof bits);
}

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if defined(__F16C__)
// _mm*_cvtph_ps by register.
inline Lanes<float> from_half(const void* from) {
#if defined(__AVX512F__)
    return reinterpret_cast<Lanes<float>>(_mm512_maskz_cvtph_ps(0xffff, load_bits<__m256i>(from)));
#else
    return reinterpret_cast<Lanes<float>>(_mm256_cvtph_ps(load_bits<__m128i>(from)));
#endif
}

inline void to_half(void* to, Lanes<float> x) {
#if defined(__AVX512F__)
    const __m256i bits = _mm512_maskz_cvtps_ph(0xffff, reinterpret_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT);
#else
    const __m128i bits = _mm256_cvtps_ph(reinterpret_cast<__m256>(x), _MM_FROUND_TO_NEAREST_INT);
#endif
    store_bits(to, bits);
}
#endif

// Bits of bfloat16, rounded to nearest, ties to even; a NaN stays one.
inline ShortLanes to_bfloat16(Lanes<float> x) {
    const auto bits = reinterpret_cast<WordLanes>(x);
    const WordLanes rounded = bits + 0x7fffU + ((bits >> 16U) & 1U);
    const WordLanes quiet = bits | 0x400000U;
    return __builtin_convertvector(((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded) >> 16U, ShortLanes);
}

/// lane_count<C> stored elements, at any address.
template <class C, class T>
Lanes<C> load_lanes(const T* from) {
    if constexpr (std::is_same_v<T, C>) {
        return load_bits<Lanes<C>>(from);
    } else if constexpr (std::is_same_v<C, float> && element_format<T> == ElementFormat::bfloat16) {
        return reinterpret_cast<Lanes<float>>(__builtin_convertvector(load_bits<ShortLanes>(from), WordLanes) << 16U);
    } else {
#if defined(__F16C__)
        if constexpr (std::is_same_v<C, float> && element_format<T> == ElementFormat::half) return from_half(from);
#endif
        Lanes<C> x;
        for (Index i = 0; i < lane_count<C>; ++i) x[i] = static_cast<C>(StoredElement<T>::to_arithmetic(from[i]));
        return x;
    }
}

/// Stores lane_count<C> elements, at any address.
template <class C, class T>
void store_lanes(T* to, Lanes<C> x) {
    if constexpr (std::is_same_v<T, C>) {
        store_bits(to, x);
    } else if constexpr (std::is_same_v<C, float> && element_format<T> == ElementFormat::bfloat16) {
        store_bits(to, to_bfloat16(x));
    } else {
#if defined(__F16C__)
        if constexpr (std::is_same_v<C, float> && element_format<T> == ElementFormat::half) return to_half(to, x);
#endif
        for (Index i = 0; i < lane_count<C>; ++i)
            to[i] = StoredElement<T>::from_arithmetic(static_cast<Arithmetic<T>>(x[i]));
    }
}

/// Element i of the result is element at(i) of a and b one behind the other.
template <class C, class F, int... I>
Lanes<C> shuffled(const Lanes<C>& a, const Lanes<C>& b, F at, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, at(I)...);
}
template <class C>
using LaneNumbers = std::make_integer_sequence<int, static_cast<int>(lane_count<C>)>;

/// Elements 0, 2, 4, ... of a and b one behind the other, and elements 1, 3, 5, ....
template <class C>
Lanes<C> even_elements(const Lanes<C>& a, const Lanes<C>& b) {
    return shuffled<C>(a, b, [](int i) { return 2 * i; }, LaneNumbers<C>{});
}
template <class C>
Lanes<C> odd_elements(const Lanes<C>& a, const Lanes<C>& b) {
    return shuffled<C>(a, b, [](int i) { return 2 * i + 1; }, LaneNumbers<C>{});
}

/// The inverse: a[0], b[0], a[1], b[1], ..., of the first halves of a and b, and of the second.
template <class C>
Lanes<C> interleaved_low(const Lanes<C>& a, const Lanes<C>& b) {
    return shuffled<C>(a, b, [](int i) { return i / 2 + i % 2 * static_cast<int>(lane_count<C>); }, LaneNumbers<C>{});
}
template <class C>
Lanes<C> interleaved_high(const Lanes<C>& a, const Lanes<C>& b) {
    constexpr int count = static_cast<int>(lane_count<C>);
    return shuffled<C>(a, b, [](int i) { return count / 2 + i / 2 + i % 2 * count; }, LaneNumbers<C>{});
}

/// The first `count` of lane_count<C> stored elements, 0 for the others, which are not touched.
template <class C, class T>
FREQKV_INLINE Lanes<C> load_part(const T* from, Index count) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    const auto mask = (1U << static_cast<unsigned>(count)) - 1U;
    if constexpr (std::is_same_v<T, C> && sizeof(T) == 4) {
        return reinterpret_cast<Lanes<C>>(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from));
    } else if constexpr (std::is_same_v<T, C>) {
        return reinterpret_cast<Lanes<C>>(_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), from));
    } else if constexpr (sizeof(T) == 2 && sizeof(C) == 4) {
        const __m256i part = _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), from);
        return load_lanes<C>(reinterpret_cast<const T*>(&part));
    }
#endif
    T part[lane_count<C>] = {};
    std::memcpy(static_cast<void*>(part), from, static_cast<std::size_t>(count) * sizeof(T));
    return load_lanes<C>(part);
}

/// x, kept in a register: without this, GCC may load it from memory again for each use.
template <class C>
FREQKV_INLINE Lanes<C> in_register(Lanes<C> x) {
#if defined(__x86_64__)
    asm("" : "+v"(x));
#endif
    return x;
}

template <class C>
FREQKV_INLINE Lanes<C> max_lanes(Lanes<C> a, Lanes<C> b) {
    return a > b ? a : b;
}

/// exp(x) for x up to 0, to about one unit in the last place; 0 where it is below twice the smallest normal
/// number (-inf included), NaN for NaN.
template <class C>
FREQKV_INLINE Lanes<C> exp_lanes(Lanes<C> x) {
    constexpr bool single = std::is_same_v<C, float>;
    using Bits = std::conditional_t<single, WordLanes, DoubleWordLanes>;
    constexpr int mantissa_bits = std::numeric_limits<C>::digits - 1;
    constexpr C lowest = std::numeric_limits<C>::min_exponent * std::numbers::ln2_v<C>;
    // exp(x) = 2^n exp(rest). By conversion, because adding and subtracting a large number to round is not safe
    // from -ffast-math.
    const Lanes<C> bounded = x > lowest ? x : Lanes<C>{} + lowest;  // NaN too, which is no integer
    const auto n_bits = __builtin_convertvector(bounded * std::numbers::log2e_v<C> - C(0.5), IntLanes<C>);
    const Lanes<C> n = __builtin_convertvector(n_bits, Lanes<C>);
    constexpr C ln2_high = C(22713) / 32768;  // n times it is exact
    constexpr C ln2_low = static_cast<C>(std::numbers::ln2_v<long double> - ln2_high);
    const Lanes<C> rest = bounded - n * ln2_high - n * ln2_low;
    // Taylor's series: |rest| <= ln(2) / 2.
    constexpr int degree = single ? 7 : 13;
    double factorial = 1;
    for (int k = 2; k <= degree; ++k) factorial *= k;
    Lanes<C> power = Lanes<C>{} + static_cast<C>(1 / factorial);
    for (int k = degree; k > 0; --k) {
        factorial /= k;
        power = power * rest + static_cast<C>(1 / factorial);
    }
    const Bits scaled = reinterpret_cast<Bits>(power) + (__builtin_convertvector(n_bits, Bits) << mantissa_bits);
    const Lanes<C> otherwise = x == x ? Lanes<C>{} : x;
    return x > lowest ? reinterpret_cast<Lanes<C>>(scaled) : otherwise;
}

// Half the lanes of a sum: a and b are made of blocks of `width` lanes, and each block becomes its lower half
// plus its upper half. The blocks of a come first.
template <class C, Index width>
FREQKV_INLINE Lanes<C> add_halves(Lanes<C> a, Lanes<C> b) {
    return [&]<Index... I>(std::integer_sequence<Index, I...>) FREQKV_INLINE_LAMBDA {
        constexpr Index half = width / 2;
        return __builtin_shufflevector(a, b, (I / half * width + I % half)...) +
               __builtin_shufflevector(a, b, (I / half * width + I % half + half)...);
    }(std::make_integer_sequence<Index, lane_count<C>>{});
}

/// The sums over the lanes of each of N registers to `to` [whole_lanes(N)]. All N together take about as many
/// additions as there are registers.
template <class C, Index N, Index width = lane_count<C>>
FREQKV_INLINE void store_sums(const Lanes<C> (&x)[N], C* to) {
    if constexpr (width == 1) {
        unrolled<N>([&](auto i) FREQKV_INLINE_LAMBDA { store_lanes<C>(to + i * lane_count<C>, x[i]); });
    } else {
        Lanes<C> halves[(N + 1) / 2];
        unrolled<(N + 1) / 2>([&](auto i) FREQKV_INLINE_LAMBDA {
            halves[i] = add_halves<C, width>(x[2 * i], x[2 * i + 1 < N ? 2 * i + 1 : 2 * i]);
        });
        store_sums<C, (N + 1) / 2, width / 2>(halves, to);
    }
}

}  // namespace freqkv::detail::inline FREQKV_ISA
