// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "freqkv/detail/lanes/lanes.hpp"
#include "llama/model/weights.hpp"

// GGML's quantised blocks as floats. A number is scale * integer or scale * integer - minimum, where scale and
// minimum are a half of the block times an integer of at most 8 bits of a part of it. All products are exact in
// float, so neither their order nor a fused multiply-add changes a result.
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
struct Block<WeightType::q4_k> {
    /// A half for the scales, one for the minima; the scales and minima of 8 parts of 32 numbers, 6 bits each, in
    /// 12 bytes; 4 times 32 bytes, whose lower 4 bits are one part and whose upper ones the next.
    static void unpack(const std::byte* block, float* out) {
        const detail::Bytes16 parts = unpack_parts(block + 4);
        float scales[16];  // the first 8
        float minima[16];  // the last 8
        detail::store_factors(scales, parts, 0, detail::load_half(block));
        detail::store_factors(minima, parts, 0, detail::load_half(block + 2));
        for (Index part = 0; part < 8; part += 2) {
            for (Index i = 0; i < 32; i += 16) {
                const detail::Bytes16 q = detail::load_16(block + 16 + 16 * part + i);
                float* const to = out + 32 * part + i;
                detail::store_16(to, q & 0x0f, 0, scales[part], minima[8 + part]);
                detail::store_16(to + 32, q >> 4, 0, scales[part + 1], minima[8 + part + 1]);
            }
        }
    }

private:
    using Words4 [[gnu::vector_size(16)]] = std::uint32_t;

    /// 8 scales, then 8 minima. Of parts 0 to 3, bytes 0 to 3 hold the scales and bytes 4 to 7 the minima in their
    /// lower 6 bits. Of parts 4 to 7, bytes 8 to 11 hold the lower 4 bits of both, and the upper 2 bits of bytes 0
    /// to 7 the rest. The numbers follow, so that 16 bytes can be read.
    static detail::Bytes16 unpack_parts(const std::byte* packed) {
        const auto words = reinterpret_cast<Words4>(detail::load_16(packed));
        const Words4 first = __builtin_shufflevector(words, words, 0, 0, 1, 1) >> Words4{0, 2, 0, 2};
        const Words4 last = __builtin_shufflevector(words, words, 2, 2, 2, 2) >> Words4{0, 0, 0, 4};
        return reinterpret_cast<detail::Bytes16>((first & Words4{0x3f3f3f3f, 0x30303030, 0x3f3f3f3f, 0x30303030}) |
                                                 (last & Words4{0, 0x0f0f0f0f, 0, 0x0f0f0f0f}));
    }
};

template <>
struct Block<WeightType::q6_k> {
    /// 128 bytes of lower 4 bits; 64 bytes of upper 2 bits; the scales of 16 parts of 16 numbers, signed bytes; a
    /// half. Of each half of the block, number 64 a + i has its lower bits in bits 4 a of byte i < 64, and number
    /// 32 b + i its upper bits in bits 2 b of byte i < 32.
    static void unpack(const std::byte* block, float* out) {
        float scales[16];
        detail::store_factors(scales, detail::load_signed_16(block + 192), 128, detail::load_half(block + 208));
        for (Index first = 0; first < 256; first += 128) {
            for (Index i = first; i < first + 32; i += 16) {
                const auto store = [&](Index at, detail::Bytes16 q) {
                    detail::store_16(out + at, q, 32, scales[at / 16]);
                };
                const std::byte* const lower = block + i - first / 2;
                const detail::Bytes16 low = detail::load_16(lower);
                const detail::Bytes16 next_low = detail::load_16(lower + 32);
                const detail::Bytes16 high = detail::load_16(block + 128 + i - first / 4 * 3);
                store(i, (low & 0x0f) | (high << 4 & 0x30));
                store(i + 32, (next_low & 0x0f) | (high << 2 & 0x30));
                store(i + 64, low >> 4 | (high & 0x30));
                store(i + 96, next_low >> 4 | (high >> 2 & 0x30));
            }
        }
    }
};

}  // namespace llama
