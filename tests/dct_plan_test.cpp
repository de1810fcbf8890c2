// SPDX-License-Identifier: MIT
#include "freqkv/dct_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <map>
#include <numbers>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/dct/direct.hpp"
#include "freqkv/dct/simd.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

namespace {

using namespace freqkv;

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

// Lengths 1 to 64, primes, neighbours of powers of two, and some with many factors.
std::vector<Index> lengths() {
    std::vector<Index> all;
    for (Index n = 1; n <= 64; ++n) all.push_back(n);
    for (const Index n : {67, 97, 100, 127, 128, 129, 251, 255, 256, 257, 360, 509}) all.push_back(n);
    return all;
}

// Random input of three columns and its transform, made once.
struct Example {
    naive::Rows x, transform;
};
const Example& example(Index n) {
    static std::map<Index, Example> examples;
    Example& made = examples[n];
    if (made.x.empty()) {
        made.x = random_rows(n, 3, static_cast<std::uint64_t>(n));
        made.transform = naive::dct(made.x);
    }
    return made;
}

template <class Case>
class DctPlanTest : public testing::Test {
protected:
    using Element = typename Case::T;
    using Plan = DctPlan<Element, typename Case::Backend>;

    // Errors are relative to the largest element.
    static constexpr double tolerance = std::is_same_v<Element, float> ? 1e-6 : 1e-14;
    static constexpr double l2_tolerance = std::is_same_v<Element, float> ? 1e-6 : 1e-13;

    static Matrix<Element> forward(const Matrix<Element>& x, Index coefficients) {
        Matrix<Element> y(coefficients, x.columns);
        Workspace workspace;
        Plan(x.rows).forward(x.view(), y.view(), workspace);
        return y;
    }

    static Matrix<Element> inverse(const Matrix<Element>& y, Index n) {
        Matrix<Element> x(n, y.columns);
        Workspace workspace;
        Plan(n).inverse(y.view(), x.view(), workspace);
        return x;
    }
};
TYPED_TEST_SUITE(DctPlanTest, TransformCases, TransformCaseNames);

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

TYPED_TEST(DctPlanTest, LongLengths) {
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

TYPED_TEST(DctPlanTest, EveryNumberOfColumns) {
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

TYPED_TEST(DctPlanTest, AnyStridesAndNothingBesides) {
    using T = typename TypeParam::T;
    constexpr Index n = 12, kept = 5, columns = 19;
    const naive::Rows x = random_rows(n, columns, 10);
    naive::Rows expected = naive::dct(x);
    expected.resize(kept);
    const typename TestFixture::Plan plan(n);
    Workspace workspace;
    struct Strides {
        Index row, column;
    };
    for (const Strides in : {Strides{columns, 1}, {40, 2}, {1, n}, {3, 50}, {-columns, 1}, {columns, -1}, {-1, -n}}) {
        for (const Strides out : {Strides{columns, 1}, {64, 3}, {1, kept}, {-columns, 1}, {-2, -30}}) {
            Strided<T> from(n, columns, in.row, in.column);
            Strided<T> to(kept, columns, out.row, out.column);
            for (Index i = 0; i < n; ++i) {
                for (Index c = 0; c < columns; ++c) from.view(i, c) = static_cast<T>(at(x, i, c));
            }
            plan.forward(from.view, to.view, workspace);
            Matrix<T> result(kept, columns);
            for (Index k = 0; k < kept; ++k) {
                for (Index c = 0; c < columns; ++c) result.view()(k, c) = to.view(k, c);
            }
            EXPECT_LT(largest_difference(result, expected), TestFixture::tolerance)
                << in.row << ',' << in.column << " to " << out.row << ',' << out.column;
            EXPECT_EQ(to.untouched(), to.gaps()) << "elements between those of the view were written";
        }
    }
}

TYPED_TEST(DctPlanTest, InPlace) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 31, 64}) {
        const Matrix<T> x(random_rows(n, 21, 11));
        Matrix<T> y = x;
        Workspace workspace;
        const typename TestFixture::Plan plan(n);
        plan.forward(y.view(), y.view(), workspace);
        EXPECT_EQ(y.values, TestFixture::forward(x, n).values);
        const Matrix<T> transform = y;
        plan.inverse(y.view(), y.view(), workspace);
        EXPECT_EQ(y.values, TestFixture::inverse(transform, n).values);
    }
}

// Blocks: the scale, and that all loads come before the first store.
template <class T>
struct RecordingRows {
    MatrixView<T> rows;
    bool* stored;
    bool* loaded_late;

    Index columns() const { return rows.columns; }
    void load(Index row, T* values) const {
        if (*stored) *loaded_late = true;
        for (Index c = 0; c < rows.columns; ++c) values[c] = rows(row, c);
    }
    void store(Index row, const T* values) const {
        *stored = true;
        for (Index c = 0; c < rows.columns; ++c) rows(row, c) = values[c];
    }
};

TYPED_TEST(DctPlanTest, BlocksAreLoadedBeforeTheyAreStoredAndScaled) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 9, 64}) {
        for (const Index columns : {Index{1}, TestFixture::Plan::block_columns}) {
            const typename TestFixture::Plan plan(n);
            Workspace workspace;
            std::byte* const scratch = workspace.reserve(1, plan.scratch_bytes());
            const Matrix<T> x(random_rows(n, columns, 12));
            for (const bool forward : {true, false}) {
                Matrix<T> y = x;
                bool stored = false;
                bool loaded_late = false;
                const RecordingRows<T> rows{y.view(), &stored, &loaded_late};
                if (forward) {
                    plan.forward(rows, n, rows, scratch, T(-0.5));
                } else {
                    plan.inverse(rows, n, rows, scratch, T(-0.5));
                }
                EXPECT_TRUE(stored);
                EXPECT_FALSE(loaded_late);
                naive::Rows expected = forward ? naive::dct(x.as_rows()) : naive::inverse_dct(x.as_rows());
                for (auto& row : expected) {
                    for (auto& value : row) value *= -0.5;
                }
                EXPECT_LT(largest_difference(y, expected), TestFixture::tolerance);
            }
        }
    }
}

TYPED_TEST(DctPlanTest, ScratchIsNotExceededNorRead) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 7, 8, 33, 256}) {
        const typename TestFixture::Plan plan(n);
        const Matrix<T> x(random_rows(n, TestFixture::Plan::block_columns - 1, 13));
        Matrix<T> first(n, x.columns);
        for (const int before : {0x00, 0xff}) {  // all bits set is a NaN
            AlignedBuffer<std::byte> scratch(plan.scratch_bytes() + 64);
            std::memset(scratch.data(), before, static_cast<std::size_t>(scratch.bytes()));
            Matrix<T> y(n, x.columns);
            plan.forward(MatrixRows<const T>(x.view()), n, MatrixRows<T>(y.view()), scratch.data());
            if (before == 0) first = y;
            EXPECT_EQ(y.values, first.values) << "n = " << n;
            const bool intact = std::all_of(scratch.data() + plan.scratch_bytes(), scratch.data() + scratch.bytes(),
                                            [&](std::byte b) { return b == static_cast<std::byte>(before); });
            EXPECT_TRUE(intact) << "n = " << n;
        }
    }
}

TYPED_TEST(DctPlanTest, ThreadsShareAPlanAndAgreeToTheBit) {
    using T = typename TypeParam::T;
    constexpr Index n = 60;
    constexpr int threads = 8;
    const typename TestFixture::Plan plan(n);
    const Matrix<T> x(random_rows(n, 40, 14));
    const Matrix<T> expected = TestFixture::forward(x, n);
    std::vector<int> agree(threads, 0);
    std::vector<std::thread> running;
    for (int t = 0; t < threads; ++t) {
        running.emplace_back([&, t] {
            const typename TestFixture::Plan copy = plan;
            const typename TestFixture::Plan another(n + t);  // planned while others execute
            Workspace workspace;
            bool same = another.size() == n + t;
            for (int repeat = 0; repeat < 20; ++repeat) {
                Matrix<T> y(n, 40);
                copy.forward(x.view(), y.view(), workspace);
                same = same && y.values == expected.values;
            }
            agree[static_cast<std::size_t>(t)] = same ? 1 : 0;
        });
    }
    for (std::thread& thread : running) thread.join();
    EXPECT_THAT(agree, testing::Each(1));
}

TYPED_TEST(DctPlanTest, NotANumberStaysInItsBlock) {
    using T = typename TypeParam::T;
    constexpr Index n = 12, block = TestFixture::Plan::block_columns;
    Matrix<T> x(random_rows(n, 2 * block, 15));
    const Matrix<T> expected = TestFixture::forward(x, n);
    x.view()(3, 0) = std::numeric_limits<T>::quiet_NaN();
    const Matrix<T> y = TestFixture::forward(x, n);
    for (Index k = 0; k < n; ++k) {
        EXPECT_TRUE(std::isnan(y.view()(k, 0)));
        for (Index c = block; c < 2 * block; ++c) EXPECT_EQ(y.view()(k, c), expected.view()(k, c));
    }
}

TYPED_TEST(DctPlanTest, NoColumnsIsNothingToDo) {
    using T = typename TypeParam::T;
    Workspace workspace;
    const typename TestFixture::Plan plan(4);
    plan.forward(MatrixView<const T>(nullptr, 4, 0), MatrixView<T>(nullptr, 4, 0), workspace);
    EXPECT_EQ(workspace.bytes(), 0);
}

TYPED_TEST(DctPlanTest, RefusesWithAReason) {
    using T = typename TypeParam::T;
    using TestedPlan = typename TestFixture::Plan;
    EXPECT_THAT([] { TestedPlan{0}; }, refuses("n is 0, must be at least 1"));
    EXPECT_THAT([] { TestedPlan{-3}; }, refuses("n is -3, must be at least 1"));
    constexpr bool on_device = std::is_same_v<typename TypeParam::Backend, DeviceBackend>;
    EXPECT_THAT([] { TestedPlan{std::numeric_limits<Index>::max()}; },
                refuses(on_device ? "must be 1 to 16384 on a device" : "DCT"));

    const TestedPlan plan(4);
    Workspace workspace;
    Matrix<T> four(4, 2), five(5, 2), wide(4, 3);
    const Matrix<T> before = four;
    EXPECT_THAT([&] { plan.forward(five.view(), four.view(), workspace); },
                refuses("in.rows is 5, must be the plan's size"));
    EXPECT_THAT([&] { plan.forward(four.view(), five.view(), workspace); },
                refuses("out.rows is 5, must be 1 to the plan's size"));
    EXPECT_THAT([&] { plan.forward(four.view(), four.view().middle_rows(0, 0), workspace); },
                refuses("out.rows is 0, must be 1 to the plan's size"));
    EXPECT_THAT([&] { plan.forward(wide.view(), four.view(), workspace); },
                refuses("out.columns is 2, must equal in.columns"));
    EXPECT_THAT([&] { plan.forward(MatrixView<const T>(nullptr, 4, 2), four.view(), workspace); },
                refuses("in.data is 0, must not be null"));
    EXPECT_THAT([&] { plan.inverse(five.view(), four.view(), workspace); },
                refuses("in.rows is 5, must be 1 to the plan's size"));
    EXPECT_THAT([&] { plan.inverse(four.view(), five.view(), workspace); },
                refuses("out.rows is 5, must be the plan's size"));
    EXPECT_EQ(four.values, before.values);
    EXPECT_EQ(workspace.bytes(), 0);
}

TYPED_TEST(DctPlanTest, Golden) {
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
