// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <thread>
#include <type_traits>
#include <vector>

#include "dct_plan_fixture.hpp"
#include "freqkv/dct_plan.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

// How a plan is called: views, memory, threads, and what it refuses.
namespace freqkv::dct_test {
namespace {

TYPED_TEST_SUITE(DctPlanTest, TransformCases, TransformCaseNames);

TYPED_TEST(DctPlanTest, WritesAnyStridesAndNothingBesides) {
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

TYPED_TEST(DctPlanTest, WorksInPlace) {
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

}  // namespace
}  // namespace freqkv::dct_test
