// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

namespace freqkv {

/// 32 elements of a stored key or value in `Bits` bits each and one scale: 8.5, 4.5 or 2.5 bits an element. As the type
/// of a cache, `SinkedKVCache<Packed<4>, Policy>`, a row is as many of them as it takes, the last one filled up.
///
/// What is packed is not the row but its Walsh-Hadamard transform, for which all channels are alike: a channel that is
/// far larger than others would otherwise take all levels (QuaRot, arXiv 2404.00456). It is orthogonal, so that
/// attention transforms a query once, and the sum of values at the end. Blocks are as large as the largest power of two
/// that divides the row.
///
/// An element is scale * level: of 8 bits, levels are -127 to 127; of 4 and 2, those that have the least squared error
/// for Gaussian numbers (Lloyd-Max), rounded to multiples of 1/127 of the largest, so that all become bytes by one
/// look-up. The scale is the one of least squared error that was found in a search over what the largest element may
/// become. A row that was packed once is packed again to the same bits.
template <int Bits>
struct Packed {
    static_assert(Bits == 8 || Bits == 4 || Bits == 2, "freqkv: elements are packed in 8, 4 or 2 bits");

    static constexpr int bits = Bits;
    static constexpr Index group = 32;  ///< elements with one scale

    Half scale;
    /// Of 8 bits: the elements' levels. Of fewer: byte i has, from its lowest bits on, the codes of elements i,
    /// i + 4 * Bits, i + 8 * Bits, … of the group.
    std::array<std::uint8_t, group * Bits / 8> codes;
};
static_assert(sizeof(Packed<8>) == 34 && sizeof(Packed<4>) == 18 && sizeof(Packed<2>) == 10);

namespace detail {

// The level of each code of 4 and 2 bits: centroids of Lloyd-Max for Gaussian numbers, the largest of which is 127.
// Where there are fewer than 16 they are repeated, as a look-up in a register of the host wants them.
template <int Bits>
inline constexpr std::array<std::int8_t, 16> packed_levels{};
template <>
inline constexpr std::array<std::int8_t, 16> packed_levels<4>{-127, -96, -75, -58, -44, -31, -18, -6,
                                                              6,    18,  31,  44,  58,  75,  96,  127};
template <>
inline constexpr std::array<std::int8_t, 16> packed_levels<2>{-127, -38, 38, 127, -127, -38, 38, 127,
                                                              -127, -38, 38, 127, -127, -38, 38, 127};

}  // namespace detail

/// Whether T is a Packed type: one whose rows are converted as a whole.
template <class T>
inline constexpr bool is_packed = false;
template <int Bits>
inline constexpr bool is_packed<Packed<Bits>> = true;

/// What a compression computes with: T itself, or for a packed type float.
template <class T>
using Unpacked = std::conditional_t<is_packed<std::remove_cv_t<T>>, float, std::remove_cv_t<T>>;

/// T's in a row of `elements` elements.
template <class T>
FREQKV_HOST_DEVICE constexpr Index row_length(Index elements) {
    if constexpr (is_packed<T>) {
        return (elements + T::group - 1) / T::group;
    } else {
        return elements;
    }
}

/// Which entries of a list of a packed type are exact to 16 bits: the first ones, and the latest. Entries are packed a
/// block at a time, when there are as many more of the latest ones and a further token comes.
struct ExactParts {
    Index first = 0;   ///< >= 0: sinks
    Index latest = 0;  ///< >= 0: at least so many

    static constexpr Index block = 64;

    /// Entries that are packed in a list that a compression has left, and at most in one of `size`.
    constexpr Index packed_of(Index size) const { return std::max<Index>(0, size - first - latest) / block * block; }
    /// The latest exact ones at most.
    constexpr Index most_latest(Index capacity) const {
        return std::max<Index>(0, std::min(capacity - first, latest + block));
    }
    /// Bytes of the keys or values of a list, of which a packed one has `row_bytes`.
    constexpr Index bytes(Index capacity, Index columns, Index row_bytes) const {
        return packed_of(capacity) * row_bytes +
               (std::min(capacity, first) + most_latest(capacity)) * columns * static_cast<Index>(sizeof(Half));
    }
};

/// The rows of a list under a packed type: the first ones and the latest are exact to 16 bits, those between are
/// packed. All are transformed. T may be const.
template <class T>
struct PackedView {
    using Exact = std::conditional_t<std::is_const_v<T>, const Half, Half>;

    MatrixView<Exact> first;
    MatrixView<T> packed;
    MatrixView<Exact> latest;

    Index rows() const { return first.rows + packed.rows + latest.rows; }
    Index columns() const { return packed.columns; }

    operator PackedView<const T>() const
        requires(!std::is_const_v<T>)
    {
        return {first, packed, latest};
    }

    /// Calls f(rows, index of the first of them) for what of each part lies within [begin, end).
    template <class F>
    void for_each_part(Index begin, Index end, const F& f) const {
        Index at = 0;
        const auto part = [&](const auto& rows) {
            const Index from = std::max(begin, at), to = std::min(end, at + rows.rows);
            if (from < to) f(rows.middle_rows(from - at, to - from), from);
            at += rows.rows;
        };
        part(first);
        part(packed);
        part(latest);
    }
};

}  // namespace freqkv
