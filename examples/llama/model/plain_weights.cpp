// SPDX-License-Identifier: MIT
#include "llama/model/plain_weights.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <Eigen/Core>

#include "llama/io/format.hpp"

namespace llama {

namespace {

template <class Number>
void widen(const std::byte* from, Index count, float* to) {
    for (Index i = 0; i < count; ++i) {
        Number number;
        std::memcpy(static_cast<void*>(&number), from + i * Index{sizeof(Number)}, sizeof(Number));
        to[i] = static_cast<float>(number);
    }
}

template <class Number>
void narrow(const float* from, Index count, std::byte* to) {
    for (Index i = 0; i < count; ++i) {
        const Number number(from[i]);
        std::memcpy(to + i * Index{sizeof(Number)}, static_cast<const void*>(&number), sizeof(Number));
    }
}

// A number is not finite if all bits of its exponent are set.
template <class Bits>
Index find_exponent(const std::byte* from, Index count, Bits exponent) {
    constexpr Index piece = 4096;  // without a branch for each number
    const auto is_bad = [&](Index i) {
        Bits bits;
        std::memcpy(&bits, from + i * Index{sizeof(Bits)}, sizeof bits);
        return (bits & exponent) == exponent;
    };
    for (Index first = 0; first < count; first += piece) {
        const Index end = std::min(count, first + piece);
        bool bad = false;
        for (Index i = first; i < end; ++i) bad |= is_bad(i);
        if (!bad) continue;
        Index i = first;
        while (!is_bad(i)) ++i;
        return i;
    }
    return count;
}

}  // namespace

void to_floats(const std::byte* from, WeightType type, Index count, float* to) {
    if (type == WeightType::f16) return widen<Eigen::half>(from, count, to);
    if (type == WeightType::bf16) return widen<Eigen::bfloat16>(from, count, to);
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

void from_floats(const float* from, WeightType type, Index count, std::byte* to) {
    if (type == WeightType::f16) return narrow<Eigen::half>(from, count, to);
    if (type == WeightType::bf16) return narrow<Eigen::bfloat16>(from, count, to);
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

Index find_not_finite(const std::byte* from, WeightType type, Index count) {
    if (type == WeightType::f16) return find_exponent<std::uint16_t>(from, count, 0x7C00);
    if (type == WeightType::bf16) return find_exponent<std::uint16_t>(from, count, 0x7F80);
    return find_exponent<std::uint32_t>(from, count, 0x7F800000);
}

std::string describe_not_finite(const std::byte* from, WeightType type, Index place, Index first) {
    float number = 0;
    to_floats(from + place * format_of(type).bytes, type, 1, &number);
    return "has an element that is " + format_number(static_cast<double>(number)) + ", at " +
           std::to_string(first + place);
}

}  // namespace llama
