// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/transform/transform_tables.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace freqkv::cuda::resample_test {
namespace {

using detail::TransformTables;
using testing::ElementsAre;

TEST(CudaPlan, PassesMultiplyToTheLength) {
    int convolutions = 0;
    for (int n = 1; n <= 8192; ++n) {
        const std::vector<int> passes = detail::fft_passes(n);
        if (passes.empty()) {
            ++convolutions;
            continue;
        }
        int product = 1;
        for (const int radix : passes) product *= radix;
        ASSERT_EQ(product, n);
        ASSERT_LE(passes.size(), static_cast<std::size_t>(detail::FftView::max_passes));
    }
    EXPECT_EQ(convolutions, 6606) << "lengths with a prime factor above 31";
    EXPECT_THAT(detail::fft_passes(4096), ElementsAre(16, 16, 16));
    EXPECT_THAT(detail::fft_passes(2048), ElementsAre(16, 16, 8));
    EXPECT_THAT(detail::fft_passes(4092), ElementsAre(31, 11, 12));
    EXPECT_THAT(detail::fft_passes(2046), ElementsAre(31, 11, 6));
}

TEST(CudaPlan, DividesByMultiplication) {
    for (int divisor = 1; divisor < 1 << 16; divisor += 1 + divisor / 16) {
        const detail::FastDivisor fast(divisor);
        for (int value = 0; value < 1 << 16; value += 1 + value % 7) ASSERT_EQ(fast.divide(value), value / divisor);
        for (int multiple = divisor; multiple < 1 << 16; multiple += divisor) {
            ASSERT_EQ(fast.divide(multiple), multiple / divisor);
            ASSERT_EQ(fast.divide(multiple - 1), multiple / divisor - 1);
        }
    }
}

TEST(CudaPlan, RefusesLengthsOutOfRange) {
    for (const Index n : {Index{-1}, Index{0}, TransformTables::max_length + 1}) {
        EXPECT_THAT([&] { TransformTables{n}; }, testing::ThrowsMessage<Error>("freqkv: n is " + std::to_string(n) +
                                                                               ", must be 1 to 16384 on a device"));
    }
    EXPECT_EQ(TransformTables(16384).slots(), 16384);
    EXPECT_EQ(TransformTables(16381).slots(), 32768) << "a prime: a convolution of twice the length";
}

// Rows in shared memory are in an order of the plan's own; every row has to be there once.
TEST(CudaPlan, HoldsEveryRowOnce) {
    for (const Index n : {1, 2, 3, 31, 37, 360, 1021, 4092, 4096}) {
        const TransformTables tables(n);
        std::vector<std::int32_t> rows(tables.rows);
        std::sort(rows.begin(), rows.end());
        for (std::size_t i = 0; i < rows.size(); ++i)
            ASSERT_EQ(rows[i], static_cast<std::int32_t>(i)) << "length " << n;
        ASSERT_EQ(rows.size(), static_cast<std::size_t>(n));
    }
}

}  // namespace
}  // namespace freqkv::cuda::resample_test
