// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "llama/weights.hpp"

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
    std::uint16_t bits;
    std::memcpy(&bits, from, sizeof bits);
#if defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    return half_from_bits(bits);
#endif
}

// 16 numbers at a time, by the vector extension of GCC and Clang: of plain loops GCC 12 leaves some scalar.
using Bytes16 [[gnu::vector_size(16)]] = std::uint8_t;
using Integers16 [[gnu::vector_size(64)]] = std::int32_t;
using Floats16 [[gnu::vector_size(64)]] = float;

inline Bytes16 load_16(const std::byte* from) {
    Bytes16 bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return bytes;
}

/// out[i] = scale * (q[i] - zero) - minimum.
inline void store_16(float* out, Bytes16 q, int zero, float scale, float minimum = 0) {
    const Integers16 integers = __builtin_convertvector(q, Integers16) - zero;
    const Floats16 numbers = __builtin_convertvector(integers, Floats16) * scale - minimum;
    std::memcpy(out, &numbers, sizeof numbers);
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
        for (int i = 0; i < 32; i += 16) {
            // A signed byte plus 128 without its sign, since GCC 12 extends signed bytes one by one.
            detail::store_16(out + i, detail::load_16(block + 2 + i) ^ 0x80, 128, scale);
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
        std::uint8_t scales[8];
        std::uint8_t minima[8];
        unpack_parts(block + 4, scales, minima);
        const float scale = detail::load_half(block);
        const float minimum = detail::load_half(block + 2);
        for (int part = 0; part < 8; part += 2) {
            const float low_scale = scale * static_cast<float>(scales[part]);
            const float low_minimum = minimum * static_cast<float>(minima[part]);
            const float high_scale = scale * static_cast<float>(scales[part + 1]);
            const float high_minimum = minimum * static_cast<float>(minima[part + 1]);
            for (int i = 0; i < 32; i += 16) {
                const detail::Bytes16 q = detail::load_16(block + 16 + 16 * part + i);
                float* const to = out + 32 * part + i;
                detail::store_16(to, q & 0x0f, 0, low_scale, low_minimum);
                detail::store_16(to + 32, q >> 4, 0, high_scale, high_minimum);
            }
        }
    }

private:
    /// Of parts 0 to 3, bytes 0 to 3 hold the scales and bytes 4 to 7 the minima in their lower 6 bits. Of parts 4
    /// to 7, bytes 8 to 11 hold the lower 4 bits of both, and the upper 2 bits of bytes 0 to 7 the rest.
    static void unpack_parts(const std::byte* packed, std::uint8_t (&scales)[8], std::uint8_t (&minima)[8]) {
        std::uint32_t words[3];
        std::memcpy(words, packed, sizeof words);
        const std::uint32_t scale_words[] = {words[0] & 0x3f3f3f3fU,
                                             (words[2] & 0x0f0f0f0fU) | (words[0] >> 2U & 0x30303030U)};
        const std::uint32_t minimum_words[] = {words[1] & 0x3f3f3f3fU,
                                               (words[2] >> 4U & 0x0f0f0f0fU) | (words[1] >> 2U & 0x30303030U)};
        std::memcpy(scales, scale_words, sizeof scales);
        std::memcpy(minima, minimum_words, sizeof minima);
    }
};

template <>
struct Block<WeightType::q6_k> {
    /// 128 bytes of lower 4 bits; 64 bytes of upper 2 bits; the scales of 16 parts of 16 numbers, signed bytes; a
    /// half. Of each half of the block, number 64 a + i has its lower bits in bits 4 a of byte i < 64, and number
    /// 32 b + i its upper bits in bits 2 b of byte i < 32.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block + 208);
        std::int8_t scales[16];
        std::memcpy(scales, block + 192, sizeof scales);
        for (int first = 0; first < 256; first += 128) {
            for (int i = first; i < first + 32; i += 16) {
                const auto store = [&](int at, detail::Bytes16 q) {
                    detail::store_16(out + at, q, 32, scale * static_cast<float>(scales[at / 16]));
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
