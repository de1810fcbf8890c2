// SPDX-License-Identifier: MIT
#include "freqkv/policy/block_mean.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "freqkv/adjoint/differentiable_codec.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

namespace {

using namespace freqkv;

static_assert(DifferentiableCodec<BlockMeanCodec, float> && DifferentiableCodec<BlockMeanCodec, double>);

// Rows of `from`, at most a block of columns, through `step`.
template <class Step>
naive::Rows mapped(const naive::Rows& from, Index rows, const Step& step) {
    const auto columns = static_cast<Index>(from.front().size());
    const Matrix<double> in(from);
    Matrix<double> out(rows, columns);
    constexpr Index width = BlockMeanPlan<double>::block_columns;
    step(MatrixRows<const double, width>(in.view()), MatrixRows<double, width>(out.view()));
    return out.as_rows();
}

naive::Rows means(const BlockMeanPlan<double>& plan, const naive::Rows& x, Index kept, Energy* energy = nullptr) {
    std::vector<double> scratch(static_cast<std::size_t>(plan.scratch_bytes()) / sizeof(double));
    return mapped(x, kept, [&](const auto& in, const auto& out) {
        plan.forward(in, out, reinterpret_cast<std::byte*>(scratch.data()), energy);
    });
}

// The k first of Haar's coefficients, and back to k rows, of gain 1.
naive::Rows haar_low_pass(naive::Rows x, std::size_t k) {
    while (x.size() > k) {
        naive::Rows half(x.size() / 2, naive::Row(x.front().size()));
        for (std::size_t i = 0; i < half.size(); ++i) {
            for (std::size_t d = 0; d < half[i].size(); ++d) {
                half[i][d] =
                    (x[2 * i][d] + x[2 * i + 1][d]) / std::sqrt(2) / std::sqrt(2);  // the transform's, the gain's
            }
        }
        x = half;
    }
    return x;
}

double sum_of_products(const naive::Rows& a, const naive::Rows& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += naive::dot(a[i], b[i]);
    return sum;
}

TEST(BlockMeanPlan, IsHaarsLowPassWhereLengthsArePowersOfTwo) {
    for (const Index kept : {1, 2, 8, 32, 64}) {
        const naive::Rows x = random_rows(64, 5, 3);
        EXPECT_LT(largest_difference(Matrix<double>(means(BlockMeanPlan<double>(64, kept), x, kept)),
                                     haar_low_pass(x, static_cast<std::size_t>(kept))),
                  1e-14)
            << kept << " of 64";
    }
}

TEST(BlockMeanPlan, HasGainOneItsTransposeAndTheEnergyItSays) {
    for (const auto& [n, kept] : std::vector<std::pair<Index, Index>>{{1, 1}, {7, 3}, {20, 19}, {33, 32}, {100, 37}}) {
        const BlockMeanPlan<double> plan(n, kept);
        const naive::Rows ones(static_cast<std::size_t>(n), naive::Row(4, 2.5));
        for (const naive::Row& row : means(plan, ones, kept)) EXPECT_THAT(row, testing::Each(testing::DoubleEq(2.5)));

        const naive::Rows x = random_rows(n, 16, 5), y = random_rows(kept, 16, 6);
        Energy energy;
        const naive::Rows z = means(plan, x, kept, &energy);
        std::vector<double> scratch(static_cast<std::size_t>(plan.scratch_bytes()) / sizeof(double));
        const naive::Rows back = mapped(y, n, [&](const auto& in, const auto& out) {
            plan.adjoint(in, out, reinterpret_cast<std::byte*>(scratch.data()));
        });
        EXPECT_NEAR(sum_of_products(z, y), sum_of_products(x, back), 1e-12) << kept << " of " << n;

        double left = 0;  // of the rows that stand for each of the n
        for (Index k = 0; k < kept; ++k) {
            const naive::Row& row = z[static_cast<std::size_t>(k)];
            left += static_cast<double>((k + 1) * n / kept - k * n / kept) * naive::dot(row, row);
        }
        EXPECT_NEAR(energy.total, sum_of_products(x, x), 1e-12 * energy.total);
        EXPECT_NEAR(energy.discarded, sum_of_products(x, x) - left, 1e-12 * energy.total);
        EXPECT_LE(sum_of_products(z, z), sum_of_products(x, x)) << "energy was raised";
    }
}

TEST(BlockMeanPlan, RefusesLengthsThatAreNone) {
    EXPECT_THAT([] { BlockMeanPlan<float>(5, 0); }, refuses("kept is 0, must be at least 1 and at most n"));
    EXPECT_THAT([] { BlockMeanPlan<float>(5, 6); }, refuses("kept is 6"));
}

}  // namespace
