// SPDX-License-Identifier: MIT
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "llama/model/weights.hpp"

// GGML's quantised blocks as unsigned bytes: a number is scale * byte - minimum, where scale and minimum are those of
// its part of the block. Needs AVX2 and F16C. Unnamed: each source that includes this is compiled for other
// instructions.
namespace llama::detail {
namespace {

inline float half_at(const std::byte* from) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
    return _cvtsh_ss(bits);
}

inline __m128i load_16_bytes(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline __m256i load_32_bytes(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store_32_bytes(void* to, __m256i bytes) { _mm256_storeu_si256(static_cast<__m256i*>(to), bytes); }

inline __m256i low_bits(__m256i bytes, int mask) {
    return _mm256_and_si256(bytes, _mm256_set1_epi8(static_cast<char>(mask)));
}
/// Bits `shift` and above, of which the mask keeps some.
template <int shift>
__m256i bits_from(__m256i bytes, int mask) {
    return low_bits(_mm256_srli_epi16(bytes, shift), mask);
}

/// 32 numbers of 4 bits: the lower halves of 16 bytes, then the upper ones.
inline __m256i nibbles(const std::byte* from) {
    const __m128i bytes = load_16_bytes(from);
    return low_bits(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), 0x0f);
}

/// Bit i of 4 bytes as bit 4 of byte i.
inline __m256i fifth_bits(const std::byte* from) {
    std::int32_t packed = 0;
    std::memcpy(&packed, from, sizeof packed);
    const __m256i spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(packed), _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0));
    const __m256i bits = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
    return low_bits(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bits), bits), 0x10);
}

/// What the numbers of IQ4_NL and IQ4_XS stand for, plus 128.
inline __m256i iq4_values(__m256i places) {
    const __m128i values = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), places);
}

inline void store_8_factors(float* to, __m128i bytes, float scale) {
    _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_set1_ps(scale)));
}
/// to[i] = scale * bytes[i], the bytes with a sign.
inline void store_16_factors(float* to, __m128i bytes, float scale) {
    store_8_factors(to, bytes, scale);
    store_8_factors(to + 8, _mm_srli_si128(bytes, 8), scale);
}

/// Part: numbers with a scale in common. Largest: that a byte can be. Centre: the byte that stands for zero, where
/// that is the same for all blocks; else `none`, and each part has a minimum of its own.
template <Index Part, int Largest, int Centre>
struct ByteFormat {
    static constexpr Index part = Part;
    static constexpr int largest = Largest;
    static constexpr int centre = Centre;
};
constexpr int none = -1;

/// Of blocks of 32 numbers, which begin with the scale and, without a centre, with what is added to the products:
/// bytes(block). Of those of 256: unpack(block, scales, minima, f) stores scales and, unless there is a centre, minima,
/// then calls f(i, numbers 32 i to 32 i + 31) for i = 0, 1, ... 7.
template <WeightType>
struct ByteBlock;

template <>
struct ByteBlock<WeightType::q8_0> : ByteFormat<32, 255, 128> {
    static __m256i bytes(const std::byte* block) {
        return _mm256_xor_si256(load_32_bytes(block + 2), _mm256_set1_epi8(-128));
    }
};

template <>
struct ByteBlock<WeightType::q4_0> : ByteFormat<32, 15, 8> {
    static __m256i bytes(const std::byte* block) { return nibbles(block + 2); }
};

template <>
struct ByteBlock<WeightType::q4_1> : ByteFormat<32, 15, none> {
    static __m256i bytes(const std::byte* block) { return nibbles(block + 4); }
};

template <>
struct ByteBlock<WeightType::q5_0> : ByteFormat<32, 31, 16> {
    static __m256i bytes(const std::byte* block) { return _mm256_or_si256(nibbles(block + 6), fifth_bits(block + 2)); }
};

template <>
struct ByteBlock<WeightType::q5_1> : ByteFormat<32, 31, none> {
    static __m256i bytes(const std::byte* block) { return _mm256_or_si256(nibbles(block + 8), fifth_bits(block + 4)); }
};

template <>
struct ByteBlock<WeightType::iq4_nl> : ByteFormat<32, 255, 128> {
    static __m256i bytes(const std::byte* block) { return iq4_values(nibbles(block + 2)); }
};

/// Numbers 32 a + i of 128, in bits 2 a of byte i < 32: f(a, them).
template <class F>
void for_each_two_bits(__m256i bytes, F&& f) {
    f(0, low_bits(bytes, 3));
    f(1, bits_from<2>(bytes, 3));
    f(2, bits_from<4>(bytes, 3));
    f(3, bits_from<6>(bytes, 3));
}

template <>
struct ByteBlock<WeightType::q2_k> : ByteFormat<16, 3, none> {
    template <class F>
    static void unpack(const std::byte* block, float* scales, float* minima, F&& f) {
        const __m128i parts = load_16_bytes(block);
        store_16_factors(scales, _mm_and_si128(parts, _mm_set1_epi8(15)), half_at(block + 80));
        store_16_factors(minima, _mm_and_si128(_mm_srli_epi16(parts, 4), _mm_set1_epi8(15)), half_at(block + 82));
        for (Index half = 0; half < 2; ++half) {
            for_each_two_bits(load_32_bytes(block + 16 + 32 * half),
                              [&](Index a, __m256i numbers) { f(4 * half + a, numbers); });
        }
    }
};

template <>
struct ByteBlock<WeightType::q3_k> : ByteFormat<16, 7, 4> {
    template <class F>
    static void unpack(const std::byte* block, float* scales, float*, F&& f) {
        std::uint32_t words[3];
        std::memcpy(words, block + 96, sizeof words);
        const std::uint32_t factors[4] = {(words[0] & 0x0f0f0f0fU) | (words[2] << 4U & 0x30303030U),
                                          (words[1] & 0x0f0f0f0fU) | (words[2] << 2U & 0x30303030U),
                                          (words[0] >> 4U & 0x0f0f0f0fU) | (words[2] & 0x30303030U),
                                          (words[1] >> 4U & 0x0f0f0f0fU) | (words[2] >> 2U & 0x30303030U)};
        store_16_factors(scales, _mm_sub_epi8(load_16_bytes(factors), _mm_set1_epi8(32)), half_at(block + 108));
        const __m256i upper = load_32_bytes(block);
        for (Index half = 0; half < 2; ++half) {
            __m256i third = half == 0 ? _mm256_slli_epi16(upper, 2) : _mm256_srli_epi16(upper, 2);
            for_each_two_bits(load_32_bytes(block + 32 + 32 * half), [&](Index a, __m256i numbers) {
                f(4 * half + a, _mm256_or_si256(numbers, low_bits(third, 4)));
                third = _mm256_srli_epi16(third, 1);
            });
        }
    }
};

/// The scales and minima of the 8 parts of Q4_K and Q5_K.
inline void unpack_scales_and_minima(const std::byte* block, float* scales, float* minima) {
    std::uint32_t words[3];
    std::memcpy(words, block + 4, sizeof words);
    const std::uint32_t integers[4] = {
        words[0] & 0x3f3f3f3fU, (words[2] & 0x0f0f0f0fU) | (words[0] >> 2U & 0x30303030U), words[1] & 0x3f3f3f3fU,
        (words[2] >> 4U & 0x0f0f0f0fU) | (words[1] >> 2U & 0x30303030U)};
    const __m128i factors = load_16_bytes(integers);
    store_8_factors(scales, factors, half_at(block));
    store_8_factors(minima, _mm_srli_si128(factors, 8), half_at(block + 2));
}

template <>
struct ByteBlock<WeightType::q4_k> : ByteFormat<32, 15, none> {
    template <class F>
    static void unpack(const std::byte* block, float* scales, float* minima, F&& f) {
        unpack_scales_and_minima(block, scales, minima);
        for (Index i = 0; i < 4; ++i) {
            const __m256i pair = load_32_bytes(block + 16 + 32 * i);
            f(2 * i, low_bits(pair, 0x0f));
            f(2 * i + 1, bits_from<4>(pair, 0x0f));
        }
    }
};

template <>
struct ByteBlock<WeightType::q5_k> : ByteFormat<32, 31, none> {
    template <class F>
    static void unpack(const std::byte* block, float* scales, float* minima, F&& f) {
        unpack_scales_and_minima(block, scales, minima);
        __m256i upper = load_32_bytes(block + 16);
        for (Index i = 0; i < 4; ++i) {
            const __m256i pair = load_32_bytes(block + 48 + 32 * i);
            const __m256i first = low_bits(_mm256_slli_epi16(upper, 4), 0x10);
            const __m256i second = low_bits(_mm256_slli_epi16(upper, 3), 0x10);
            f(2 * i, _mm256_or_si256(low_bits(pair, 0x0f), first));
            f(2 * i + 1, _mm256_or_si256(bits_from<4>(pair, 0x0f), second));
            upper = _mm256_srli_epi16(upper, 2);  // bits of another byte come in above those that are used
        }
    }
};

template <>
struct ByteBlock<WeightType::q6_k> : ByteFormat<16, 63, 32> {
    template <class F>
    static void unpack(const std::byte* block, float* scales, float*, F&& f) {
        store_16_factors(scales, load_16_bytes(block + 192), half_at(block + 208));
        for (Index half = 0; half < 2; ++half) {
            const __m256i first = load_32_bytes(block + 64 * half);
            const __m256i second = load_32_bytes(block + 64 * half + 32);
            const __m256i upper = load_32_bytes(block + 128 + 32 * half);
            f(4 * half, _mm256_or_si256(low_bits(first, 0x0f), low_bits(_mm256_slli_epi16(upper, 4), 0x30)));
            f(4 * half + 1, _mm256_or_si256(low_bits(second, 0x0f), low_bits(_mm256_slli_epi16(upper, 2), 0x30)));
            f(4 * half + 2, _mm256_or_si256(bits_from<4>(first, 0x0f), low_bits(upper, 0x30)));
            f(4 * half + 3, _mm256_or_si256(bits_from<4>(second, 0x0f), bits_from<2>(upper, 0x30)));
        }
    }
};

template <>
struct ByteBlock<WeightType::iq4_xs> : ByteFormat<32, 255, 128> {
    template <class F>
    static void unpack(const std::byte* block, float* scales, float*, F&& f) {
        std::uint16_t upper = 0;
        std::uint32_t lower = 0;
        std::memcpy(&upper, block + 2, sizeof upper);
        std::memcpy(&lower, block + 4, sizeof lower);
        const float scale = half_at(block);
        for (Index i = 0; i < 8; ++i) {
            const auto integer = static_cast<int>((lower >> 4 * i & 15U) | (upper >> 2 * i & 3U) << 4U);
            scales[i] = scale * static_cast<float>(integer - 32);
        }
        for (Index i = 0; i < 8; ++i) f(i, iq4_values(nibbles(block + 8 + 16 * i)));
    }
};

/// f(<type>) if the type is quantised.
template <class F>
void with_byte_blocks(WeightType type, F&& f) {
    const auto call = [&]<WeightType... types>() {
        const auto call_if = [&]<WeightType candidate>() {
            if (type == candidate) f.template operator()<candidate>();
        };
        (call_if.template operator()<types>(), ...);
    };
    using enum WeightType;
    call.template operator()<q4_0, q4_1, q5_0, q5_1, q8_0, iq4_nl, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs>();
}

}  // namespace
}  // namespace llama::detail
