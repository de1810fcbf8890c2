// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "llama/model/quantized.hpp"

// GGML's super-blocks: 256 numbers in 8 or 16 parts, whose scales are small integers times a half of the block.
namespace llama {

namespace detail {

using Words4 [[gnu::vector_size(16)]] = std::uint32_t;

/// 8 scales, then 8 minima. Of parts 0 to 3, bytes 0 to 3 hold the scales and bytes 4 to 7 the minima in their
/// lower 6 bits. Of parts 4 to 7, bytes 8 to 11 hold the lower 4 bits of both, and the upper 2 bits of bytes 0
/// to 7 the rest. The numbers follow, so that 16 bytes can be read.
inline Bytes16 unpack_scales_and_minima(const std::byte* packed) {
    const auto words = reinterpret_cast<Words4>(load_16(packed));
    const Words4 first = __builtin_shufflevector(words, words, 0, 0, 1, 1) >> Words4{0, 2, 0, 2};
    const Words4 last = __builtin_shufflevector(words, words, 2, 2, 2, 2) >> Words4{0, 0, 0, 4};
    return reinterpret_cast<Bytes16>((first & Words4{0x3f3f3f3f, 0x30303030, 0x3f3f3f3f, 0x30303030}) |
                                     (last & Words4{0, 0x0f0f0f0f, 0, 0x0f0f0f0f}));
}

/// The 16 scales of a Q3_K block plus 32: the lower 4 bits of scales 0 to 7 and, above them, of 8 to 15 in
/// bytes 0 to 7; the upper 2 bits of scales 4 a + i in bits 2 a of byte 8 + i. Reads the two bytes before
/// them, since the block ends soon after.
inline Bytes16 unpack_q3_scales(const std::byte* packed) {
    const Bytes16 b = load_16(packed - 2);
    const auto words =
        reinterpret_cast<Words4>(__builtin_shufflevector(b, b, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 10, 11, 12, 13));
    const Words4 low = __builtin_shufflevector(words, words, 0, 1, 0, 1) >> Words4{0, 0, 4, 4};
    const Words4 high = __builtin_shufflevector(words, words, 2, 2, 2, 2) >> Words4{0, 2, 4, 6};
    return reinterpret_cast<Bytes16>((low & 0x0f0f0f0f) | (high & 0x03030303) << 4);
}

}  // namespace detail

template <>
struct Block<WeightType::q2_k> {
    /// The scales of 16 parts of 16 numbers in the lower 4 bits of 16 bytes and their minima in the upper ones; 64
    /// bytes of 2 bits each; a half for the scales, one for the minima. Of each half of the block, number 32 a + i
    /// is in bits 2 a of byte i < 32.
    static void unpack(const std::byte* block, float* out) {
        const detail::Bytes16 parts = detail::load_16(block);
        float scales[16];
        float minima[16];
        detail::store_factors(scales, parts & 0x0f, 0, detail::load_half(block + 80));
        detail::store_factors(minima, parts >> 4, 0, detail::load_half(block + 82));
        for (Index first = 0; first < 256; first += 128) {
            for (Index i = 0; i < 32; i += 16) {
                detail::Bytes16 q = detail::load_16(block + 16 + first / 4 + i);
                for (Index at = first + i; at < first + 128; at += 32, q >>= 2) {
                    detail::store_16(out + at, q & 0x03, 0, scales[at / 16], minima[at / 16]);
                }
            }
        }
    }
};

template <>
struct Block<WeightType::q3_k> {
    /// 32 bytes of upper bits; 64 bytes of lower 2 bits; 16 scales, 6 bits each, in 12 bytes; a half. Number 32 a +
    /// i of the block has its upper bit in bit a of byte i < 32, its lower ones as in Q2_K.
    static void unpack(const std::byte* block, float* out) {
        float scales[16];
        detail::store_factors(scales, detail::unpack_q3_scales(block + 96), 32, detail::load_half(block + 108));
        for (Index i = 0; i < 32; i += 16) {
            detail::Bytes16 high = detail::load_16(block + i);
            for (Index first = 0; first < 256; first += 128) {
                detail::Bytes16 low = detail::load_16(block + 32 + first / 4 + i);
                for (Index at = first + i; at < first + 128; at += 32, low >>= 2, high >>= 1) {
                    detail::store_16(out + at, (low & 0x03) | (high << 2 & 0x04), 4, scales[at / 16]);
                }
            }
        }
    }
};

template <>
struct Block<WeightType::q4_k> {
    /// A half for the scales, one for the minima; the scales and minima of 8 parts of 32 numbers, 6 bits each, in
    /// 12 bytes; 4 times 32 bytes, whose lower 4 bits are one part and whose upper ones the next.
    static void unpack(const std::byte* block, float* out) {
        const detail::Bytes16 parts = detail::unpack_scales_and_minima(block + 4);
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
};

template <>
struct Block<WeightType::q5_k> {
    /// As Q4_K, with 32 bytes before the lower 4 bits: number i of part a has its upper bit in bit a of byte i.
    static void unpack(const std::byte* block, float* out) {
        const detail::Bytes16 parts = detail::unpack_scales_and_minima(block + 4);
        float scales[16];  // the first 8
        float minima[16];  // the last 8
        detail::store_factors(scales, parts, 0, detail::load_half(block));
        detail::store_factors(minima, parts, 0, detail::load_half(block + 2));
        for (Index i = 0; i < 32; i += 16) {
            detail::Bytes16 high = detail::load_16(block + 16 + i);
            for (Index part = 0; part < 8; part += 2, high >>= 2) {
                const detail::Bytes16 q = detail::load_16(block + 48 + 16 * part + i);
                float* const to = out + 32 * part + i;
                detail::store_16(to, (q & 0x0f) | (high << 4 & 0x10), 0, scales[part], minima[8 + part]);
                detail::store_16(to + 32, q >> 4 | (high << 3 & 0x10), 0, scales[part + 1], minima[8 + part + 1]);
            }
        }
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

template <>
struct Block<WeightType::iq4_xs> {
    /// A half; the scales of 8 parts of 32 numbers, 6 bits each: the upper 2 bits of part a in bits 2 a of 2 bytes,
    /// then the lower 4 bits of two parts in each of 4 bytes; 16 bytes for each part, as in IQ4_NL.
    static void unpack(const std::byte* block, float* out) {
        const float scale = detail::load_half(block);
        std::uint16_t upper = 0;
        std::uint32_t lower = 0;
        std::memcpy(&upper, block + 2, sizeof upper);
        std::memcpy(&lower, block + 4, sizeof lower);
        for (Index part = 0; part < 8; ++part) {
            const auto integer = static_cast<int>((lower >> 4 * part & 0x0fU) | (upper >> 2 * part & 0x03U) << 4U);
            const float factor = scale * static_cast<float>(integer - 32);
            const detail::Bytes16 q = detail::load_16(block + 8 + 16 * part);
            detail::store_16(out + 32 * part, detail::look_up_iq4(q & 0x0f), 128, factor);
            detail::store_16(out + 32 * part + 16, detail::look_up_iq4(q >> 4), 128, factor);
        }
    }
};

}  // namespace llama
