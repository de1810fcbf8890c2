// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>
#include <vector>

#include "dct_plan_fixture.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

namespace freqkv::dct_test {
namespace {

TYPED_TEST_SUITE(DctPlanTest, TransformCases, TransformCaseNames);

// The DCT-II of length n as a table of its cosines, in long double.
class Oracle {
public:
    explicit Oracle(Index n) : n_(n), cosines_(static_cast<std::size_t>(4 * n)) {
        for (Index j = 0; j < 4 * n; ++j) {
            const long double angle = std::numbers::pi_v<long double> * static_cast<long double>(j) / (2 * n);
            cosines_[static_cast<std::size_t>(j)] = std::cos(angle);
        }
    }

    // Coefficient k of row i.
    long double weight(Index k, Index i) const {
        const long double factor = std::sqrt((k == 0 ? 1.0L : 2.0L) / static_cast<long double>(n_));
        return factor * cosines_[static_cast<std::size_t>((2 * i + 1) * k % (4 * n_))];
    }

private:
    Index n_;
    std::vector<long double> cosines_;
};

// The error of every step-th row of a block's transform and of its inverse, in L2 relative to those rows. The
// columns of the block are three random ones in turn.
template <class Plan, class T>
double relative_error(Index n, Index step) {
    constexpr Index width = Plan::block_columns;
    naive::Rows x = random_rows(n, 3, static_cast<std::uint64_t>(n));
    Matrix<T> in(n, width);
    Matrix<T> forward(n, width);
    Matrix<T> inverse(n, width);
    for (Index i = 0; i < n; ++i) {
        for (Index c = 0; c < width; ++c) {
            double& exact = x[static_cast<std::size_t>(i)][static_cast<std::size_t>(c % 3)];
            in.view()(i, c) = static_cast<T>(exact);
            exact = static_cast<double>(in.view()(i, c));
        }
    }
    Workspace workspace;
    const Plan plan(n);
    plan.forward(std::as_const(in).view(), forward.view(), workspace);
    plan.inverse(std::as_const(in).view(), inverse.view(), workspace);
    const Oracle oracle(n);
    long double difference = 0;
    long double norm = 0;
    for (Index row = 0; row < n; row += step) {
        long double exact[2][3] = {};
        for (Index i = 0; i < n; ++i) {
            for (std::size_t c = 0; c < 3; ++c) {
                exact[0][c] += oracle.weight(row, i) * x[static_cast<std::size_t>(i)][c];
                exact[1][c] += oracle.weight(i, row) * x[static_cast<std::size_t>(i)][c];
            }
        }
        for (Index c = 0; c < width; ++c) {
            const long double errors[] = {forward.view()(row, c) - exact[0][c % 3],
                                          inverse.view()(row, c) - exact[1][c % 3]};
            for (int which = 0; which < 2; ++which) {
                difference += errors[which] * errors[which];
                norm += exact[which][c % 3] * exact[which][c % 3];
            }
        }
    }
    return static_cast<double>(std::sqrt(difference / norm));
}

TYPED_TEST(DctPlanTest, ErrorInL2OfAllLengthsTo1024) {
    using T = typename TypeParam::T;
    for (Index n = 1; n <= 1024; ++n) {
        EXPECT_LE((relative_error<typename TestFixture::Plan, T>(n, std::max<Index>(1, n / 32))),
                  TestFixture::l2_tolerance)
            << "n = " << n;
    }
}

TYPED_TEST(DctPlanTest, ErrorInL2OfLongLengthsAndPrimes) {
    using T = typename TypeParam::T;
    // 32764 = 4 * 8191, a large prime; 65536 and its neighbours are the longest that are promised.
    for (const Index n : {1031, 2039, 2053, 4093, 8191, 4092, 4096, 8188, 16129, 32764, 65521, 65535, 65536}) {
        if (!takes<typename TypeParam::Backend>(n)) continue;
        EXPECT_LE((relative_error<typename TestFixture::Plan, T>(n, n / 16)), TestFixture::l2_tolerance) << "n = " << n;
    }
}

}  // namespace
}  // namespace freqkv::dct_test
