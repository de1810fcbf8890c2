// SPDX-License-Identifier: MIT
#include "freqkv/stored_element.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include <Eigen/Core>

#include "freqkv/detail/lanes/convert.hpp"

namespace {

using freqkv::BFloat16;
using freqkv::ElementFormat;
using freqkv::Half;
using freqkv::Index;

static_assert(sizeof(Half) == 2 && std::is_trivially_copyable_v<Half>);
static_assert(sizeof(BFloat16) == 2 && std::is_trivially_copyable_v<BFloat16>);
static_assert(freqkv::element_format<Half> == ElementFormat::half);
static_assert(freqkv::element_format<Eigen::bfloat16> == ElementFormat::bfloat16);
static_assert(freqkv::element_format<float> == ElementFormat::converted);

template <class T>
std::uint16_t bits_of(const T& value) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Every 16-bit pattern, and floats of every exponent beside and between them.
template <class T>
T from_bits(std::uint16_t bits) {
    T value;
    std::memcpy(static_cast<void*>(&value), &bits, sizeof bits);
    return value;
}

template <class Pair>
class StoredElementOfOurOwn : public testing::Test {};
template <class Own, class Theirs>
struct Pair {
    using A = Own;
    using B = Theirs;
};
using Pairs = testing::Types<Pair<Half, Eigen::half>, Pair<BFloat16, Eigen::bfloat16>>;
TYPED_TEST_SUITE(StoredElementOfOurOwn, Pairs);

TYPED_TEST(StoredElementOfOurOwn, EveryPatternIsTheNumberThatItIsInEigen) {
    using A = typename TypeParam::A;
    using B = typename TypeParam::B;
    for (std::uint32_t bits = 0; bits < 1U << 16U; ++bits) {
        const auto pattern = static_cast<std::uint16_t>(bits);
        const float ours = static_cast<float>(from_bits<A>(pattern));
        const float theirs = static_cast<float>(from_bits<B>(pattern));
        ASSERT_EQ(std::isnan(ours), std::isnan(theirs)) << bits;
        if (std::isnan(ours)) continue;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(ours), std::bit_cast<std::uint32_t>(theirs)) << bits;
        ASSERT_EQ(bits_of(A(ours)), pattern);
    }
}

TYPED_TEST(StoredElementOfOurOwn, NumbersAreRoundedAsInEigen) {
    using A = typename TypeParam::A;
    using B = typename TypeParam::B;
    std::mt19937 random(7);
    const auto check = [](float value) {
        if (std::isnan(value)) return;
        ASSERT_EQ(bits_of(A(value)), bits_of(B(value))) << value;
    };
    for (int i = 0; i < 1'000'000; ++i) check(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
    // Halfway between neighbours, and just beside it.
    for (std::uint32_t bits = 0; bits < 0x7c00U; ++bits) {
        const float low = static_cast<float>(from_bits<A>(static_cast<std::uint16_t>(bits)));
        const float high = static_cast<float>(from_bits<A>(static_cast<std::uint16_t>(bits + 1)));
        if (std::isinf(high)) continue;
        const float middle = low + (high - low) / 2;
        for (const float value : {middle, std::nextafter(middle, low), std::nextafter(middle, high)}) {
            check(value);
            check(-value);
        }
    }
    EXPECT_TRUE(std::isnan(static_cast<float>(A(std::nanf("")))));
}

TYPED_TEST(StoredElementOfOurOwn, RowsConvertAsElementsDo) {
    using A = typename TypeParam::A;
    std::mt19937 random(8);
    std::normal_distribution<float> normal;
    for (const Index count : {1, 2, 15, 16, 17, 33, 100}) {
        std::vector<float> x(static_cast<std::size_t>(count));
        for (float& value : x) value = normal(random);
        std::vector<A> stored(x.size());
        freqkv::detail::convert_row(x.data(), count, stored.data());
        std::vector<float> back(x.size());
        freqkv::detail::convert_row(stored.data(), count, back.data());
        for (std::size_t i = 0; i < x.size(); ++i) {
            EXPECT_EQ(bits_of(stored[i]), bits_of(A(x[i]))) << "element " << i << " of " << count;
            EXPECT_EQ(back[i], static_cast<float>(stored[i])) << "element " << i << " of " << count;
        }
    }
}

#if defined(__FLT16_MAX__)
TEST(StoredElement, OfTheCompilerConvertsByTheRegister) {
    EXPECT_EQ(freqkv::element_format<_Float16>, ElementFormat::half);
    const std::vector<float> x{0.1F, -2.5F, 65504.0F, 1e-7F, 3.0F,  4.0F,  5.0F,  6.0F,  7.0F,
                               8.0F, 9.0F,  10.0F,    11.0F, 12.0F, 13.0F, 14.0F, 15.0F, 16.0F};
    std::vector<_Float16> stored(x.size());
    freqkv::detail::convert_row(x.data(), static_cast<Index>(x.size()), stored.data());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(bits_of(stored[i]), bits_of(Half(x[i])));
}
#endif

}  // namespace
