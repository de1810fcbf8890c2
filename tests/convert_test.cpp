// SPDX-License-Identifier: MIT
#include "freqkv/detail/lanes/convert.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "freqkv/detail/lanes/lanes.hpp"

namespace {

using namespace freqkv;

template <class T>
T from_bits(std::uint16_t bits) {
    return Eigen::numext::bit_cast<T>(bits);
}
template <class T>
std::uint16_t bits_of(T x) {
    return Eigen::numext::bit_cast<std::uint16_t>(x);
}

// Floats of all magnitudes with the roundings of a 16-bit type: exact, below, at and above a tie.
std::vector<float> floats() {
    std::vector<float> all;
    for (std::uint32_t high = 0; high < 0x10000; ++high) {
        for (const std::uint32_t low : {0U, 0x0fffU, 0x1000U, 0x1001U, 0x3000U, 0x7fffU, 0x8000U, 0x8001U}) {
            all.push_back(std::bit_cast<float>(high << 16U | low));
        }
    }
    return all;
}

template <class T>
class ConvertTest : public testing::Test {};
using ShortTypes = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(ConvertTest, ShortTypes);

// Eigen converts one element at a time; registers have to do the same to the bit.
TYPED_TEST(ConvertTest, EveryValueToFloat) {
    std::vector<TypeParam> stored;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        stored.push_back(from_bits<TypeParam>(static_cast<std::uint16_t>(bits)));
    }
    std::vector<float> row(stored.size());
    detail::convert_row(stored.data(), static_cast<Index>(stored.size()), row.data());
    for (std::size_t i = 0; i < stored.size(); ++i) {
        const auto expected = static_cast<float>(stored[i]);
        if (std::isnan(expected)) {
            EXPECT_TRUE(std::isnan(row[i])) << "bits " << i;
        } else {
            EXPECT_EQ(std::bit_cast<std::uint32_t>(row[i]), std::bit_cast<std::uint32_t>(expected)) << "bits " << i;
        }
    }
}

TYPED_TEST(ConvertTest, FloatsAreRoundedAsEigenRoundsThem) {
    const std::vector<float> row = floats();
    std::vector<TypeParam> stored(row.size());
    detail::convert_row(row.data(), static_cast<Index>(row.size()), stored.data());
    for (std::size_t i = 0; i < row.size(); ++i) {
        const auto expected = static_cast<TypeParam>(row[i]);
        if (std::isnan(row[i])) {
            EXPECT_TRUE(std::isnan(static_cast<float>(stored[i]))) << row[i];
        } else {
            ASSERT_EQ(bits_of(stored[i]), bits_of(expected)) << row[i];
        }
    }
}

TYPED_TEST(ConvertTest, RowsOfAnyLengthAndNothingBehindThem) {
    for (Index count = 0; count <= 40; ++count) {
        std::vector<TypeParam> stored(41, TypeParam(7));
        std::vector<float> row(41, 3);
        detail::convert_row(row.data(), count, stored.data());
        detail::convert_row(stored.data(), count, row.data());
        for (Index i = 0; i <= 40; ++i) {
            EXPECT_EQ(static_cast<float>(stored[static_cast<std::size_t>(i)]), i < count ? 3 : 7) << count;
            EXPECT_EQ(row[static_cast<std::size_t>(i)], 3);
        }
    }
}

TEST(Lanes, InterleavingUndoesTheTakingOfEveryOtherElement) {
    constexpr Index count = detail::lane_count<float>;
    detail::Lanes<float> low, high;
    for (Index i = 0; i < count; ++i) {
        low[i] = static_cast<float>(i);
        high[i] = static_cast<float>(count + i);
    }
    const auto even = detail::even_elements<float>(low, high);
    const auto odd = detail::odd_elements<float>(low, high);
    const auto low_again = detail::interleaved_low<float>(even, odd);
    const auto high_again = detail::interleaved_high<float>(even, odd);
    for (Index i = 0; i < count; ++i) {
        EXPECT_EQ(even[i], static_cast<float>(2 * i));
        EXPECT_EQ(odd[i], static_cast<float>(2 * i + 1));
        EXPECT_EQ(low_again[i], low[i]);
        EXPECT_EQ(high_again[i], high[i]);
    }
}

}  // namespace
