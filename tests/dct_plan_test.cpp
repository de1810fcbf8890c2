// SPDX-License-Identifier: MIT
#include "freqkv/dct_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "dct_plan_fixture.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/dct/simd.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

// The concepts, and what a plan computes.
namespace freqkv::dct_test {
namespace {

TYPED_TEST_SUITE(DctPlanTest, TransformCases, TransformCaseNames);

// What the concepts accept and refuse.
struct Rows {
    Index columns() const { return 1; }
    void load(Index, float* values) const { *values = 1; }
    void store(Index, const float*) const {}
};
struct RowsWithoutCount {
    void load(Index, float*) const {}
    void store(Index, const float*) const {}
};
static_assert(RowSource<Rows, float> && RowSink<Rows, float>);
static_assert(!RowSource<Rows, double> && !RowSink<Rows, double>);
static_assert(!RowSource<RowsWithoutCount, float> && !RowSink<RowsWithoutCount, float>);
static_assert(!RowSource<int, float> && !RowSink<int, float>);
static_assert(RowSource<MatrixRows<const float>, float> && RowSource<MatrixRows<double>, double>);
static_assert(RowSink<MatrixRows<float>, float> && !RowSink<MatrixRows<const float>, float>);

template <class T, Index Block, bool Noexcept>
struct PlanOf {
    explicit PlanOf(Index) {}
    static constexpr Index block_columns = Block;
    Index scratch_bytes() const { return 0; }
    template <class In, class Out>
    void forward(const In&, Index, const Out&, std::byte*, T) const noexcept(Noexcept) {}
    template <class In, class Out>
    void inverse(const In&, Index, const Out&, std::byte*, T) const noexcept(Noexcept) {}
};
template <Index Block, bool Noexcept>
struct BackendOf {
    template <class T>
    using Plan = PlanOf<T, Block, Noexcept>;
};
struct BackendWithoutPlan {};
static_assert(DctBackend<BackendOf<2, true>, float> && DctBackend<BackendOf<2, true>, double>);
static_assert(!DctBackend<BackendOf<3, true>, float>, "blocks are of an even number of columns");
static_assert(!DctBackend<BackendOf<0, true>, float>);
static_assert(!DctBackend<BackendOf<2, false>, float>, "transforms do not throw");
static_assert(!DctBackend<BackendWithoutPlan, float> && !DctBackend<int, float>);
static_assert(DctBackend<dct::Direct, float> && DctBackend<dct::Direct, double>);
static_assert(DctBackend<dct::Simd, float> && DctBackend<dct::Simd, double>);
#if defined(FREQKV_HAS_FFTW)
static_assert(DctBackend<dct::Fftw, float> && DctBackend<dct::Fftw, double>);
#endif
static_assert(std::is_copy_constructible_v<DctPlan<float, dct::Direct>>);

TYPED_TEST(DctPlanTest, ForwardIsTheDefinition) {
    using T = typename TypeParam::T;
    for (const Index n : lengths()) {
        const Example& expected = example(n);
        const Matrix<T> y = TestFixture::forward(Matrix<T>(expected.x), n);
        EXPECT_LT(largest_difference(y, expected.transform), TestFixture::tolerance) << "n = " << n;
    }
}

TYPED_TEST(DctPlanTest, InverseIsTheDefinition) {
    using T = typename TypeParam::T;
    for (const Index n : lengths()) {
        const Example& expected = example(n);
        const Matrix<T> x = TestFixture::inverse(Matrix<T>(expected.transform), n);
        EXPECT_LT(largest_difference(x, expected.x), TestFixture::tolerance) << "n = " << n;
    }
}

TYPED_TEST(DctPlanTest, ForwardFormsTheFirstCoefficientsOnly) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 3, 8, 31, 64, 100}) {
        const Matrix<T> x(example(n).x);
        const Matrix<T> all = TestFixture::forward(x, n);
        for (Index coefficients = 1; coefficients <= n; ++coefficients) {
            const Matrix<T> some = TestFixture::forward(x, coefficients);
            EXPECT_TRUE(std::equal(some.values.begin(), some.values.end(), all.values.begin()))
                << n << " to " << coefficients;
        }
    }
}

TYPED_TEST(DctPlanTest, InverseTakesMissingCoefficientsForZero) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 3, 8, 31, 64, 100}) {
        for (Index coefficients = 1; coefficients <= n; ++coefficients) {
            naive::Rows y = example(n).transform;
            y.resize(static_cast<std::size_t>(coefficients));
            const Matrix<T> x = TestFixture::inverse(Matrix<T>(y), n);
            y.resize(static_cast<std::size_t>(n), naive::Row(3));
            const Matrix<T> padded = TestFixture::inverse(Matrix<T>(y), n);
            EXPECT_EQ(x.values, padded.values) << coefficients << " of " << n;
        }
    }
}

TYPED_TEST(DctPlanTest, LongLengthsAreTheDefinition) {
    using T = typename TypeParam::T;
    // Single coefficients against their sums: a whole naive transform would take too long.
    for (const Index n : {1020, 2047, 4092, 4096}) {
        const naive::Rows x = random_rows(n, 3, 5);
        const Matrix<T> y = TestFixture::forward(Matrix<T>(x), n);
        for (const Index k : {Index{0}, Index{1}, n / 2, n - 1}) {
            for (std::size_t c = 0; c < 3; ++c) {
                double expected = 0;
                for (std::size_t i = 0; i < x.size(); ++i) {
                    expected += static_cast<double>(naive::cosine(static_cast<std::size_t>(k), i, x.size())) * x[i][c];
                }
                // The largest coefficient is about 2.
                EXPECT_NEAR(static_cast<double>(y.view()(k, static_cast<Index>(c))), expected,
                            2 * TestFixture::tolerance)
                    << "coefficient " << k << " of " << n;
            }
        }
    }
}

TYPED_TEST(DctPlanTest, InverseUndoesForwardAndEnergyStays) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 3, 16, 17, 100, 1020, 4092}) {
        const Matrix<T> x(random_rows(n, 5, 6));
        const Matrix<T> y = TestFixture::forward(x, n);
        const Matrix<T> again = TestFixture::inverse(y, n);
        EXPECT_LT(largest_difference(again, x.as_rows()), TestFixture::tolerance) << "n = " << n;
        EXPECT_NEAR(
            naive::energy(y.as_rows(), 0, y.as_rows().size()) / naive::energy(x.as_rows(), 0, x.as_rows().size()), 1,
            TestFixture::tolerance)
            << "n = " << n;
    }
}

TYPED_TEST(DctPlanTest, IsLinear) {
    using T = typename TypeParam::T;
    const naive::Rows a = random_rows(60, 4, 7);
    const naive::Rows b = random_rows(60, 4, 8);
    naive::Rows sum = a;
    for (std::size_t i = 0; i < a.size(); ++i) {
        for (std::size_t c = 0; c < 4; ++c) sum[i][c] = 2 * a[i][c] - 3 * b[i][c];
    }
    const naive::Rows of_a = TestFixture::forward(Matrix<T>(a), 60).as_rows();
    const naive::Rows of_b = TestFixture::forward(Matrix<T>(b), 60).as_rows();
    naive::Rows expected = of_a;
    for (std::size_t i = 0; i < a.size(); ++i) {
        for (std::size_t c = 0; c < 4; ++c) expected[i][c] = 2 * of_a[i][c] - 3 * of_b[i][c];
    }
    EXPECT_LT(largest_difference(TestFixture::forward(Matrix<T>(sum), 60), expected), TestFixture::tolerance);
}

TYPED_TEST(DctPlanTest, TakesEveryNumberOfColumns) {
    using T = typename TypeParam::T;
    constexpr Index n = 12;
    for (Index columns = 1; columns <= 2 * TestFixture::Plan::block_columns + 1; ++columns) {
        const naive::Rows x = random_rows(n, columns, 9);
        const naive::Rows expected = naive::dct(x);
        const Matrix<T> y = TestFixture::forward(Matrix<T>(x), n);
        EXPECT_LT(largest_difference(y, expected), TestFixture::tolerance) << columns << " columns";
        EXPECT_LT(largest_difference(TestFixture::inverse(y, n), x), TestFixture::tolerance) << columns << " columns";
    }
}

TYPED_TEST(DctPlanTest, GivesTheGoldenNumbers) {
    using T = typename TypeParam::T;
    const std::vector<GoldenDct> golden = golden_dcts();
    if (golden.empty()) GTEST_SKIP() << "no golden/dct.json in " FREQKV_SHARED_DIR;
    constexpr double golden_tolerance = std::is_same_v<T, float> ? 1e-6 : 1e-12;
    for (const GoldenDct& g : golden) {
        const auto n = static_cast<Index>(g.x.size());
        EXPECT_LT(largest_difference(TestFixture::forward(Matrix<T>(g.x), n), g.dct), golden_tolerance) << "n = " << n;
        EXPECT_LT(largest_difference(TestFixture::inverse(Matrix<T>(g.dct), n), g.x), golden_tolerance) << "n = " << n;
    }
}

}  // namespace
}  // namespace freqkv::dct_test
