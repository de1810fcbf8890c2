// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__) || defined(__SSSE3__)
#include <immintrin.h>
#endif

#include "freqkv/detail/lanes/lanes.hpp"
#include "llama/model/weights.hpp"

// GGML's quantised blocks of 32 numbers as floats. A number is scale * integer or scale * integer - minimum, where
// scale and minimum are a half of the block, in super_blocks.hpp times an integer of at most 8 bits of a part of it.
// All products are exact in float, so neither their order nor a fused multiply-add changes a result.
namespace llama {

namespace detail {

/// Portable; the bits of a half without its sign stand for the float with the same bits 13 places up, but for
/// the bias of the exponent, which a multiplication by a power of two corrects for subnormal halves, too.
inline float half_from_bits(std::uint16_t bits) {
    const std::uint32_t magnitude = (bits & 0x7fffU) << 13U;
    const bool is_finite = magnitude < 0x0f800000U;
    const float value =
        is_finite ? std::bit_cast<float>(magnitude) * 0x1p112F : std::bit_cast<float>(magnitude | 0x7f800000U);
    const std::uint32_t sign = (bits & 0x8000U) << 16U;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

/// The half at any address.
inline float load_half(const std::byte* from) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
#if defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    return half_from_bits(bits);
#endif
}

// 16 numbers at a time. With AVX2 and AVX-512, GCC 12 leaves some of the plain loops scalar.
using Bytes16 [[gnu::vector_size(16)]] = std::uint8_t;

inline Bytes16 load_16(const std::byte* from) {
    Bytes16 bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return bytes;
}

/// Signed bytes plus 128, without a sign: GCC 12 extends signed bytes one by one.
inline Bytes16 load_signed_16(const std::byte* from) { return load_16(from) ^ 0x80; }

#if defined(__AVX2__)
/// Bytes `first`, first + 1, ... as integers, a register of them.
template <int first>
freqkv::detail::IntLanes<float> widened(Bytes16 q) {
#if defined(__AVX512F__)
    return __builtin_convertvector(q, freqkv::detail::IntLanes<float>);
#else
    const __m128i shifted = _mm_bsrli_si128(reinterpret_cast<__m128i>(q), first);
    return reinterpret_cast<freqkv::detail::IntLanes<float>>(_mm256_cvtepu8_epi32(shifted));
#endif
}
#endif

/// out[i] = scale * (q[i] - zero) - minimum.
inline void store_16(float* out, Bytes16 q, int zero, float scale, float minimum = 0) {
#if defined(__AVX2__)
    using freqkv::detail::Lanes;
    constexpr int lanes = freqkv::detail::lane_count<float>;
    freqkv::detail::unrolled<16 / lanes>([&](auto part) FREQKV_INLINE_LAMBDA {
        constexpr int first = part * lanes;
        const Lanes<float> numbers = __builtin_convertvector(widened<first>(q) - zero, Lanes<float>) * scale - minimum;
        std::memcpy(out + first, &numbers, sizeof numbers);
    });
#else
    for (int i = 0; i < 16; ++i) out[i] = static_cast<float>(q[i] - zero) * scale - minimum;
#endif
}

/// out[i] = scale * (q[i] - zero): the factors of 16 parts of a block. GCC would take each of them out of a
/// register, which costs more than to load it, and therefore convert them one by one, too.
inline void store_factors(float (&out)[16], Bytes16 q, int zero, float scale) {
#if defined(__x86_64__) && !defined(__clang__)
    asm("" : "+x"(q));
    store_16(out, q, zero, scale);
    asm("" : "+m"(out));
#else
    store_16(out, q, zero, scale);
#endif
}

/// Bits 0 to 15 of the two bytes at `from`, each as bit 4 of a byte of its own. Reads 16 bytes.
inline Bytes16 load_fifth_bits(const std::byte* from) {
    const Bytes16 bytes = load_16(from);
    const Bytes16 spread = __builtin_shufflevector(bytes, bytes, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    constexpr Bytes16 bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return reinterpret_cast<Bytes16>((spread & bits) != 0) & 0x10;
}

/// What the numbers 0 to 15 of the types IQ4_NL and IQ4_XS stand for, plus 128: closer to each other near zero, as
/// weights are.
inline Bytes16 look_up_iq4(Bytes16 q) {
    constexpr Bytes16 values = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
#if defined(__SSSE3__)
    auto found =
        reinterpret_cast<Bytes16>(_mm_shuffle_epi8(reinterpret_cast<__m128i>(values), reinterpret_cast<__m128i>(q)));
#if !defined(__clang__)
    asm("" : "+x"(found));  // or GCC widens what it has seen shuffled one by one
#endif
    return found;
#else
    Bytes16 found;
    for (int i = 0; i < 16; ++i) found[i] = values[q[i] & 0x0f];
    return found;
#endif
}

}  // namespace detail

/// One block of a quantised type. unpack(block, out) writes its format_of(type).block floats; neither address is
/// aligned to anything.
template <WeightType>
struct Block;

template <>
struct Block<WeightType::q8_0> {
    /// A half; 32 signed bytes.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        for (Index i = 0; i < 32; i += 16) {
            detail::store_16(out + i, detail::load_signed_16(block + 2 + i), 128, scale);
        }
    }
};

template <>
struct Block<WeightType::q4_0> {
    /// A half; 16 bytes, whose lower 4 bits are numbers 0 to 15 and whose upper ones 16 to 31.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        const detail::Bytes16 q = detail::load_16(block + 2);
        detail::store_16(out, q & 0x0f, 8, scale);
        detail::store_16(out + 16, q >> 4, 8, scale);
    }
};

template <>
struct Block<WeightType::q4_1> {
    /// A half for the scale, one for what is added; 16 bytes as in Q4_0.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        const float least = detail::load_half(block + 2);
        const detail::Bytes16 q = detail::load_16(block + 4);
        detail::store_16(out, q & 0x0f, 0, scale, -least);
        detail::store_16(out + 16, q >> 4, 0, scale, -least);
    }
};

template <>
struct Block<WeightType::q5_0> {
    /// A half; 4 bytes, whose bit i is the upper bit of number i; 16 bytes of lower 4 bits as in Q4_0.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        const detail::Bytes16 q = detail::load_16(block + 6);
        detail::store_16(out, (q & 0x0f) | detail::load_fifth_bits(block + 2), 16, scale);
        detail::store_16(out + 16, q >> 4 | detail::load_fifth_bits(block + 4), 16, scale);
    }
};

template <>
struct Block<WeightType::q5_1> {
    /// A half for the scale, one for what is added; the rest as in Q5_0.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        const float least = detail::load_half(block + 2);
        const detail::Bytes16 q = detail::load_16(block + 8);
        detail::store_16(out, (q & 0x0f) | detail::load_fifth_bits(block + 4), 0, scale, -least);
        detail::store_16(out + 16, q >> 4 | detail::load_fifth_bits(block + 6), 0, scale, -least);
    }
};

template <>
struct Block<WeightType::iq4_nl> {
    /// A half; 16 bytes as in Q4_0, of places in a table.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        const detail::Bytes16 q = detail::load_16(block + 2);
        detail::store_16(out, detail::look_up_iq4(q & 0x0f), 128, scale);
        detail::store_16(out + 16, detail::look_up_iq4(q >> 4), 128, scale);
    }
};

}  // namespace llama
