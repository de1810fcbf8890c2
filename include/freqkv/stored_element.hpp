// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "freqkv/config.hpp"

namespace Eigen {
struct half;
struct bfloat16;
}  // namespace Eigen

namespace freqkv {

/// What a stored element is in memory.
enum class ElementFormat : std::uint8_t {
    converted,  ///< known to its type's conversions alone, which are called element by element
    half,       ///< 16 bits of IEEE 754
    bfloat16,   ///< the upper 16 bits of a float
};

/// The format of T. Of the formats with a name, whole registers are converted at once: say so for a type of your own by
/// a specialisation, as those below.
template <class T>
inline constexpr ElementFormat element_format = ElementFormat::converted;
template <>
inline constexpr ElementFormat element_format<Eigen::half> = ElementFormat::half;
template <>
inline constexpr ElementFormat element_format<Eigen::bfloat16> = ElementFormat::bfloat16;
// GCC 12 has the macro without the type on Arm.
#if defined(__FLT16_MAX__) && !defined(__CUDACC__) && (defined(__clang__) || defined(__x86_64__) || __GNUC__ > 12)
template <>
inline constexpr ElementFormat element_format<_Float16> = ElementFormat::half;
#endif

/// 16 bits that are a bfloat16, for programs without such a type. An engine that holds them as integers casts its
/// pointers: `reinterpret_cast<freqkv::BFloat16*>(data)`.
struct BFloat16 {
    std::uint16_t bits = 0;

    BFloat16() = default;
    /// Rounds to nearest, ties to even; a NaN stays one.
    explicit BFloat16(float value) {
        const auto word = std::bit_cast<std::uint32_t>(value);
        const bool is_nan = (word & 0x7fffffffU) > 0x7f800000U;
        const std::uint32_t rounded = word + 0x7fffU + ((word >> 16U) & 1U);
        bits = static_cast<std::uint16_t>((is_nan ? word | 0x400000U : rounded) >> 16U);
    }
    explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U); }
};
template <>
inline constexpr ElementFormat element_format<BFloat16> = ElementFormat::bfloat16;

/// 16 bits that are a half, as BFloat16.
struct Half {
    std::uint16_t bits = 0;

    Half() = default;
    /// Rounds to nearest, ties to even; infinity from 65520 on; a NaN stays one.
    explicit Half(float value) {
        const auto word = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t magnitude = word & 0x7fffffffU;
        std::uint32_t result = 0;
        if (magnitude > 0x7f800000U) {
            result = 0x7e00U | ((magnitude >> 13U) & 0x1ffU);
        } else if (magnitude >= 0x477ff000U) {
            result = 0x7c00U;
        } else if (magnitude < 0x38800000U) {
            // Below 2^-14: the last bit of this sum is worth 2^-24, as that of a half without an implicit 1.
            const float sum = std::bit_cast<float>(magnitude) + 0.5F;
            result = std::bit_cast<std::uint32_t>(sum) - std::bit_cast<std::uint32_t>(0.5F);
        } else {
            result = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13U) & 1U)) >> 13U;
        }
        bits = static_cast<std::uint16_t>(result | (word >> 16U & 0x8000U));
    }
    explicit operator float() const {
        const std::uint32_t magnitude = bits & 0x7fffU;
        std::uint32_t word = (magnitude << 13U) + 0x38000000U;  // the exponent's bias is 127 instead of 15
        if (magnitude >= 0x7c00U) word += 0x38000000U;          // infinities and NaN
        if (magnitude < 0x0400U) {
            word = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24F);
        }
        return std::bit_cast<float>(word | (static_cast<std::uint32_t>(bits & 0x8000U) << 16U));
    }
};
template <>
inline constexpr ElementFormat element_format<Half> = ElementFormat::half;

/// What caches know of an element type T that they store: what it is computed with, and how it is converted. Made for
/// every type that converts from and to its arithmetic type; specialised where a type needs other functions for that,
/// as CUDA's 16-bit types do (cuda/detail/device/device_elements.cuh). Conversions to T round once, to nearest.
///
/// An element converts by itself (no `has_row_scale`). Where elements share a scale, whole rows are converted: those of
/// Packed, and ForeignRows.
template <class T>
struct StoredElement {
    using Arithmetic = freqkv::Arithmetic<T>;

    static constexpr bool has_row_scale = false;

    FREQKV_HOST_DEVICE static Arithmetic to_arithmetic(const T& value) { return static_cast<Arithmetic>(value); }
    FREQKV_HOST_DEVICE static T from_arithmetic(Arithmetic value) { return static_cast<T>(value); }
};

namespace detail {

// Instantiated where an element type is given, so that the compiler's message is a sentence.
template <class T>
consteval bool check_stored() {
    static_assert(!std::is_integral_v<T>,
                  "freqkv: integers are not elements of a cache; 16 bits of an engine's own are freqkv::Half or "
                  "freqkv::BFloat16, to which it casts its pointers");
    return true;
}

}  // namespace detail

}  // namespace freqkv
