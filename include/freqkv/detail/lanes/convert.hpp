// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"

// Rows of stored elements as rows of the arithmetic type, and back.
namespace freqkv::detail::inline FREQKV_ISA {

/// Converts `count` elements between a stored type and the type it is computed with, a register at a time.
template <class From, class To>
void convert_row(const From* from, Index count, To* to) {
    using C = std::conditional_t<std::is_same_v<To, double> || std::is_same_v<From, double>, double, float>;
    Index i = 0;
    for (; i + lane_count<C> <= count; i += lane_count<C>) store_lanes<C>(to + i, load_lanes<C>(from + i));
    const Index rest = count - i;  // GCC 12 takes a loop from i to count for one that could run for ever, and warns
    for (Index j = 0; j < rest; ++j) to[i + j] = static_cast<To>(static_cast<C>(from[i + j]));
}

/// The row itself where it needs no conversion, else `scratch` (`count` elements), filled.
template <class T, class C>
const C* as_arithmetic(const T* row, Index count, C* scratch) {
    if constexpr (std::is_same_v<T, C>) {
        return row;
    } else {
        convert_row(row, count, scratch);
        return scratch;
    }
}

}  // namespace freqkv::detail::inline FREQKV_ISA
