// SPDX-License-Identifier: MIT
#include "freqkv/frequency_compressor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/executor.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

namespace {

using namespace freqkv;

// Storage decides the arithmetic: 16-bit views go with float.
template <class T, class U>
concept CompressesViewsOf =
    requires(const FrequencyCompressor<T, dct::Direct>& compressor, KVView<U> view, Workspace& workspace) {
        compressor.forward(view, view, workspace);
        compressor.adjoint(view, view, workspace);
    };
static_assert(CompressesViewsOf<float, float> && CompressesViewsOf<double, double>);
static_assert(CompressesViewsOf<float, Eigen::half> && CompressesViewsOf<float, Eigen::bfloat16>);
static_assert(!CompressesViewsOf<double, float> && !CompressesViewsOf<float, double>);
static_assert(!CompressesViewsOf<double, Eigen::half> && !CompressesViewsOf<float, const float>);

// Tasks in reverse order, under changing worker numbers.
struct BackwardExecutor {
    Index concurrency() const { return 3; }
    template <class F>
    void for_each(Index count, F&& f) const {
        for (Index task = count; task-- > 0;) f(task, task % 3);
    }
};

// Real threads that take tasks as they come.
struct ThreadExecutor {
    Index threads = 4;
    Index concurrency() const { return threads; }
    template <class F>
    void for_each(Index count, F&& f) const {
        std::atomic<Index> next{0};
        std::vector<std::thread> running;
        for (Index worker = 0; worker < threads; ++worker) {
            running.emplace_back([&, worker] {
                for (Index task = next++; task < count; task = next++) f(task, worker);
            });
        }
        for (std::thread& thread : running) thread.join();
    }
};
static_assert(Executor<BackwardExecutor> && Executor<ThreadExecutor>);

using Shapes = std::vector<std::pair<Index, Index>>;

// (n, kept): all of the short ones, then primes, neighbours of powers of two, and ratios other than 1/2.
Shapes shapes() {
    Shapes all;
    for (Index n = 1; n <= 12; ++n) {
        for (Index kept = 1; kept <= n; ++kept) all.emplace_back(n, kept);
    }
    for (const Index n : {31, 60, 64, 127, 128, 129}) {
        for (const Index kept : {Index{1}, n / 4, n / 2, n - 1, n}) all.emplace_back(n, kept);
    }
    return all;
}

template <class Case>
class FrequencyCompressorTest : public testing::Test {
protected:
    using Element = typename Case::T;
    using Compressor = FrequencyCompressor<Element, typename Case::Backend>;

    // Errors are relative to the largest element.
    static constexpr double tolerance = std::is_same_v<Element, float> ? 1e-6 : 1e-14;

    static Matrix<Element> forward(const Compressor& compressor, const Matrix<Element>& x, Energy* energy = nullptr) {
        Matrix<Element> z(compressor.kept(), x.columns);
        Workspace workspace;
        compressor.forward(KVView<const Element>(x.values.data(), 1, x.rows, x.columns),
                           KVView<Element>(z.values.data(), 1, z.rows, z.columns), workspace,
                           std::span<Energy>(energy, energy == nullptr ? 0 : 1));
        return z;
    }

    static Matrix<Element> adjoint(const Compressor& compressor, const Matrix<Element>& z) {
        Matrix<Element> x(compressor.size(), z.columns);
        Workspace workspace;
        compressor.adjoint(KVView<const Element>(z.values.data(), 1, z.rows, z.columns),
                           KVView<Element>(x.values.data(), 1, x.rows, x.columns), workspace);
        return x;
    }
};
TYPED_TEST_SUITE(FrequencyCompressorTest, TransformCases, TransformCaseNames);

TYPED_TEST(FrequencyCompressorTest, IsTheDefinition) {
    using T = typename TypeParam::T;
    for (const auto& [n, kept] : shapes()) {
        const naive::Rows x = random_rows(n, 3, static_cast<std::uint64_t>(n));
        const naive::Rows expected = naive::low_passed(x, static_cast<std::size_t>(kept));
        const typename TestFixture::Compressor compressor(n, kept);
        EXPECT_EQ(compressor.size(), n);
        EXPECT_EQ(compressor.kept(), kept);
        EXPECT_LT(largest_difference(TestFixture::forward(compressor, Matrix<T>(x)), expected), TestFixture::tolerance)
            << n << " to " << kept;
    }
}

TYPED_TEST(FrequencyCompressorTest, GivesTheGoldenNumbers) {
    using T = typename TypeParam::T;
    const std::vector<GoldenDct> golden = golden_dcts();
    if (golden.empty()) GTEST_SKIP() << "no golden/dct.json in " FREQKV_SHARED_DIR;
    constexpr double allowed = std::is_same_v<T, float> ? 1e-6 : 1e-12;
    for (const GoldenDct& g : golden) {
        const auto n = static_cast<Index>(g.x.size());
        const typename TestFixture::Compressor compressor(n, g.keep);
        EXPECT_LT(largest_difference(TestFixture::forward(compressor, Matrix<T>(g.x)), g.low_pass), allowed)
            << n << " to " << g.keep;
    }
}

TYPED_TEST(FrequencyCompressorTest, KeepingAllIsTheIdentity) {
    using T = typename TypeParam::T;
    for (const Index n : {1, 2, 31, 64, 1020}) {
        const Matrix<T> x(random_rows(n, 5, 21));
        Energy energy;
        const Matrix<T> z = TestFixture::forward(typename TestFixture::Compressor(n, n), x, &energy);
        EXPECT_LT(largest_difference(z, x.as_rows()), TestFixture::tolerance) << "n = " << n;
        EXPECT_GT(energy.total, 0);
        EXPECT_EQ(energy.discarded, 0);
    }
}

TYPED_TEST(FrequencyCompressorTest, ConstantsKeepTheirValue) {
    using T = typename TypeParam::T;
    constexpr double allowed = std::is_same_v<T, float> ? 3e-7 : 1e-14;
    for (const auto& [n, kept] :
         {std::pair<Index, Index>{2, 1}, {7, 3}, {60, 30}, {60, 59}, {4092, 2046}, {4096, 2048}}) {
        Matrix<T> x(n, 3);
        for (Index i = 0; i < n; ++i) {
            for (Index c = 0; c < 3; ++c) x.view()(i, c) = T(c + 1) / 3;
        }
        const naive::Rows expected(static_cast<std::size_t>(kept), naive::Row{1.0 / 3, 2.0 / 3, 1});
        const typename TestFixture::Compressor compressor(n, kept);
        EXPECT_LT(largest_difference(TestFixture::forward(compressor, x), expected), allowed) << n << " to " << kept;
    }
}

// Gain 1 and norm <= 1 again and again: nothing drifts, nothing blows up.
TYPED_TEST(FrequencyCompressorTest, ConstantsSurviveManyCompressions) {
    using T = typename TypeParam::T;
    const typename TestFixture::Compressor compressor(60, 30);
    Matrix<T> x(60, 1);
    std::fill(x.values.begin(), x.values.end(), T(1));
    for (int i = 0; i < 1000; ++i) {
        const Matrix<T> z = TestFixture::forward(compressor, x);
        std::copy(z.values.begin(), z.values.end(), x.values.begin());
    }
    for (Index i = 0; i < 60; ++i) {
        EXPECT_NEAR(static_cast<double>(x.view()(i, 0)), 1, 100 * TestFixture::tolerance);
    }
}

TYPED_TEST(FrequencyCompressorTest, IsLinear) {
    using T = typename TypeParam::T;
    const typename TestFixture::Compressor compressor(60, 23);
    naive::Rows a = random_rows(60, 2, 22);
    const naive::Rows b = random_rows(60, 2, 23);
    naive::Rows expected = TestFixture::forward(compressor, Matrix<T>(a)).as_rows();
    const naive::Rows of_b = TestFixture::forward(compressor, Matrix<T>(b)).as_rows();
    for (std::size_t i = 0; i < expected.size(); ++i) {
        for (std::size_t c = 0; c < 2; ++c) expected[i][c] = 3 * expected[i][c] - of_b[i][c];
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
        for (std::size_t c = 0; c < 2; ++c) a[i][c] = 3 * a[i][c] - b[i][c];
    }
    EXPECT_LT(largest_difference(TestFixture::forward(compressor, Matrix<T>(a)), expected), TestFixture::tolerance);
}

TYPED_TEST(FrequencyCompressorTest, AdjointIsTheTranspose) {
    using T = typename TypeParam::T;
    for (const auto& [n, kept] : shapes()) {
        const typename TestFixture::Compressor compressor(n, kept);
        // The whole map as a matrix, from the images of the unit vectors: column j is C e_j.
        if (n <= 12) {
            Matrix<T> unit(n, n);
            for (Index i = 0; i < n; ++i) unit.view()(i, i) = 1;
            Matrix<T> unit_kept(kept, kept);
            for (Index i = 0; i < kept; ++i) unit_kept.view()(i, i) = 1;
            const naive::Rows map = TestFixture::forward(compressor, unit).as_rows();
            naive::Rows transposed(static_cast<std::size_t>(n), naive::Row(static_cast<std::size_t>(kept)));
            for (std::size_t i = 0; i < map.size(); ++i) {
                for (std::size_t j = 0; j < transposed.size(); ++j) transposed[j][i] = map[i][j];
            }
            EXPECT_LT(largest_difference(TestFixture::adjoint(compressor, unit_kept), transposed),
                      2 * TestFixture::tolerance)
                << n << " to " << kept;
        }
        // <C x, z> = <x, C' z>
        const Matrix<T> x(random_rows(n, 3, 24));
        const Matrix<T> z(random_rows(kept, 3, 25));
        const naive::Rows cx = TestFixture::forward(compressor, x).as_rows();
        const naive::Rows ctz = TestFixture::adjoint(compressor, z).as_rows();
        double left = 0;
        double right = 0;
        for (std::size_t i = 0; i < cx.size(); ++i) left += naive::dot(cx[i], z.as_rows()[i]);
        for (std::size_t i = 0; i < ctz.size(); ++i) right += naive::dot(x.as_rows()[i], ctz[i]);
        EXPECT_NEAR(left, right, static_cast<double>(n) * TestFixture::tolerance) << n << " to " << kept;
    }
}

TYPED_TEST(FrequencyCompressorTest, SpectralNormIsTheSquareRootOfTheRatio) {
    using T = typename TypeParam::T;
    for (const auto& [n, kept] : {std::pair<Index, Index>{12, 6}, {31, 15}, {60, 45}, {100, 24}}) {
        const typename TestFixture::Compressor compressor(n, kept);
        Matrix<T> x(random_rows(n, 1, 26));
        double squared = 0;
        for (int i = 0; i < 20; ++i) {
            const double before = naive::energy(x.as_rows(), 0, x.as_rows().size());
            x = TestFixture::adjoint(compressor, TestFixture::forward(compressor, x));
            squared = std::sqrt(naive::energy(x.as_rows(), 0, x.as_rows().size()) / before);
        }
        const double ratio = static_cast<double>(kept) / static_cast<double>(n);
        EXPECT_NEAR(squared, ratio, 10 * TestFixture::tolerance) << n << " to " << kept;
        // and no input gains more than that
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
            const Matrix<T> any(random_rows(n, 1, seed));
            const naive::Rows z = TestFixture::forward(compressor, any).as_rows();
            EXPECT_LE(naive::energy(z, 0, z.size()), ratio * naive::energy(any.as_rows(), 0, any.as_rows().size()) *
                                                         (1 + 10 * TestFixture::tolerance));
        }
    }
}

TYPED_TEST(FrequencyCompressorTest, EnergyIsWhatTheDroppedFrequenciesHold) {
    using T = typename TypeParam::T;
    for (const Index columns : {Index{1}, Index{3}, TestFixture::Compressor::block_columns, Index{37}}) {
        for (const auto& [n, kept] : {std::pair<Index, Index>{2, 1}, {31, 15}, {64, 16}, {100, 99}}) {
            const Matrix<T> x(random_rows(n, columns, 27));
            const naive::Rows transform = naive::dct(x.as_rows());
            Energy energy{1000, 100};  // added to
            TestFixture::forward(typename TestFixture::Compressor(n, kept), x, &energy);
            const double total = naive::energy(transform, 0, transform.size());
            const double discarded = naive::energy(transform, static_cast<std::size_t>(kept), transform.size());
            EXPECT_NEAR(energy.total, 1000 + total, total * TestFixture::tolerance + 1e-11);
            EXPECT_NEAR(energy.discarded, 100 + discarded, total * TestFixture::tolerance + 1e-11);
        }
    }
}

TYPED_TEST(FrequencyCompressorTest, NothingIsDiscardedFromLowFrequencies) {
    using T = typename TypeParam::T;
    naive::Rows transform(60, naive::Row(4));
    for (std::size_t k = 0; k < 20; ++k) transform[k] = {1, -2, 3, 0.5};
    Energy energy;
    TestFixture::forward(typename TestFixture::Compressor(60, 20), Matrix<T>(naive::inverse_dct(transform)), &energy);
    EXPECT_NEAR(energy.relative(), 0, TestFixture::tolerance);
    EXPECT_GE(energy.discarded, 0);
    EXPECT_LE(energy.discarded, energy.total);
}

TEST(EnergyTest, Arithmetic) {
    Energy energy{8, 2};
    EXPECT_EQ(energy.relative(), 0.25);
    energy += {2, 3};
    EXPECT_EQ(energy, (Energy{10, 5}));
    EXPECT_NE(energy, (Energy{10, 4}));
    EXPECT_EQ(Energy{}.relative(), 0);
}

TYPED_TEST(FrequencyCompressorTest, HeadsStridesAndEnergiesOfWholeViews) {
    using T = typename TypeParam::T;
    constexpr Index heads = 3, n = 14, kept = 5, dim = 21;
    const typename TestFixture::Compressor compressor(n, kept);
    std::vector<naive::Rows> x, expected;
    for (std::uint64_t h = 0; h < heads; ++h) {
        x.push_back(random_rows(n, dim, 30 + h));
        expected.push_back(naive::low_passed(x.back(), kept));
    }
    const auto element = [](const std::vector<naive::Rows>& rows, Index h, Index i, Index d) {
        return at(rows[static_cast<std::size_t>(h)], i, d);
    };
    struct Layout {
        Index head, token, dim, size;
        bool backwards;
    };
    // dense, token-major, dims outermost, with gaps, tokens backwards
    for (const Layout& layout : {Layout{n * dim, dim, 1, heads * n * dim, false},
                                 {dim, heads * dim, 1, heads * n * dim, false},
                                 {n, 1, heads * n, heads * n * dim, false},
                                 {1000, 64, 3, 3000, false},
                                 {n * dim, dim, 1, heads * n * dim, true}}) {
        std::vector<T> in(static_cast<std::size_t>(layout.size)), out = in;
        const Index sign = layout.backwards ? -1 : 1;
        const KVView<T> from(in.data() + (layout.backwards ? (n - 1) * layout.token : 0), heads, n, dim, layout.head,
                             sign * layout.token, layout.dim);
        const KVView<T> to(out.data() + (layout.backwards ? (kept - 1) * layout.token : 0), heads, kept, dim,
                           layout.head, sign * layout.token, layout.dim);
        for (Index h = 0; h < heads; ++h) {
            for (Index i = 0; i < n; ++i) {
                for (Index d = 0; d < dim; ++d) from.head(h)(i, d) = static_cast<T>(element(x, h, i, d));
            }
        }
        std::vector<Energy> energies(heads);
        Workspace workspace;
        compressor.forward(from, to, workspace, energies, BackwardExecutor{});
        for (Index h = 0; h < heads; ++h) {
            Matrix<T> result(kept, dim);
            for (Index i = 0; i < kept; ++i) {
                for (Index d = 0; d < dim; ++d) result.view()(i, d) = to.head(h)(i, d);
            }
            const naive::Rows& head = x[static_cast<std::size_t>(h)];
            EXPECT_LT(largest_difference(result, expected[static_cast<std::size_t>(h)]), TestFixture::tolerance);
            EXPECT_NEAR(energies[static_cast<std::size_t>(h)].total, naive::energy(head, 0, n),
                        TestFixture::tolerance * naive::energy(head, 0, n));
        }
        // In place, and the adjoint of the result the same way.
        std::vector<T> in_place = in;
        const KVView<T> begin(in_place.data() + (from.data - in.data()), heads, n, dim, layout.head,
                              sign * layout.token, layout.dim);
        compressor.forward(begin, begin.middle_tokens(0, kept), workspace, {}, BackwardExecutor{});
        std::vector<T> back(in.size());
        const KVView<T> separate(back.data() + (from.data - in.data()), heads, n, dim, layout.head, sign * layout.token,
                                 layout.dim);
        compressor.adjoint(begin.middle_tokens(0, kept), separate, workspace);
        for (Index h = 0; h < heads; ++h) {
            for (Index i = 0; i < kept; ++i) {
                for (Index d = 0; d < dim; ++d) EXPECT_EQ(begin.head(h)(i, d), to.head(h)(i, d));
            }
        }
        compressor.adjoint(begin.middle_tokens(0, kept), begin, workspace, BackwardExecutor{});
        for (Index h = 0; h < heads; ++h) {
            for (Index i = 0; i < n; ++i) {
                for (Index d = 0; d < dim; ++d) EXPECT_EQ(begin.head(h)(i, d), separate.head(h)(i, d));
            }
        }
    }
}

TYPED_TEST(FrequencyCompressorTest, ThreadsDoNotChangeABit) {
    using T = typename TypeParam::T;
    constexpr Index heads = 4, n = 60, kept = 30, dim = 40;
    const typename TestFixture::Compressor compressor(n, kept);
    const Matrix<T> x(random_rows(heads * n, dim, 40));
    const KVView<const T> in(x.values.data(), heads, n, dim);
    std::vector<T> expected(heads * kept * dim);
    std::vector<Energy> expected_energies(heads);
    Workspace workspace;
    compressor.forward(in, KVView<T>(expected.data(), heads, kept, dim), workspace, expected_energies);
    for (int repeat = 0; repeat < 5; ++repeat) {
        std::vector<T> z(expected.size());
        std::vector<Energy> energies(heads);
        compressor.forward(in, KVView<T>(z.data(), heads, kept, dim), workspace, energies, ThreadExecutor{});
        EXPECT_EQ(z, expected);
        EXPECT_EQ(energies, expected_energies);
        // without energies too
        std::fill(z.begin(), z.end(), T(0));
        compressor.forward(in, KVView<T>(z.data(), heads, kept, dim), workspace, {}, ThreadExecutor{3});
        EXPECT_EQ(z, expected);
    }
}

TYPED_TEST(FrequencyCompressorTest, SteadyStateNeedsNoMoreMemory) {
    using T = typename TypeParam::T;
    const typename TestFixture::Compressor compressor(60, 30);
    const Matrix<T> x(random_rows(120, 40, 41));
    std::vector<T> z(2 * 30 * 40);
    std::vector<Energy> energies(2);
    Workspace workspace;
    Index bytes = 0;
    for (int i = 0; i < 3; ++i) {
        compressor.forward(KVView<const T>(x.values.data(), 2, 60, 40), KVView<T>(z.data(), 2, 30, 40), workspace,
                           energies);
        if (i == 0) bytes = workspace.bytes();
        EXPECT_EQ(workspace.bytes(), bytes);
    }
    EXPECT_GE(bytes, compressor.scratch_bytes());
}

// 16-bit storage is loaded to float, computed with, and rounded once.
template <class U>
class StorageTest : public testing::Test {};
using Storages = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(StorageTest, Storages);

TYPED_TEST(StorageTest, IsRoundedOnce) {
    constexpr Index heads = 2, n = 14, kept = 6, dim = 19;
    const FrequencyCompressor<float, AnyBackend> compressor(n, kept);
    const Matrix<float> values(random_rows(heads * n, dim, 50));
    std::vector<TypeParam> stored(values.values.size()), z(heads * kept * dim), back(stored.size());
    std::vector<float> exact(stored.size()), expected(z.size()), expected_back(stored.size());
    for (std::size_t i = 0; i < stored.size(); ++i) {
        stored[i] = static_cast<TypeParam>(values.values[i]);
        exact[i] = static_cast<float>(stored[i]);
    }
    Workspace workspace;
    compressor.forward(KVView<const TypeParam>(stored.data(), heads, n, dim),
                       KVView<TypeParam>(z.data(), heads, kept, dim), workspace);
    compressor.forward(KVView<const float>(exact.data(), heads, n, dim),
                       KVView<float>(expected.data(), heads, kept, dim), workspace);
    for (std::size_t i = 0; i < z.size(); ++i) {
        EXPECT_EQ(static_cast<float>(z[i]), static_cast<float>(static_cast<TypeParam>(expected[i])));
        expected[i] = static_cast<float>(z[i]);
    }
    compressor.adjoint(KVView<const TypeParam>(z.data(), heads, kept, dim),
                       KVView<TypeParam>(back.data(), heads, n, dim), workspace);
    compressor.adjoint(KVView<const float>(expected.data(), heads, kept, dim),
                       KVView<float>(expected_back.data(), heads, n, dim), workspace);
    for (std::size_t i = 0; i < back.size(); ++i) {
        EXPECT_EQ(static_cast<float>(back[i]), static_cast<float>(static_cast<TypeParam>(expected_back[i])));
    }
}

TYPED_TEST(FrequencyCompressorTest, NoHeadsOrColumnsAreNothingToDo) {
    using T = typename TypeParam::T;
    const typename TestFixture::Compressor compressor(4, 2);
    Workspace workspace;
    std::vector<Energy> energies(3);
    compressor.forward(KVView<const T>(nullptr, 0, 4, 8), KVView<T>(nullptr, 0, 2, 8), workspace);
    compressor.forward(KVView<const T>(nullptr, 3, 4, 0), KVView<T>(nullptr, 3, 2, 0), workspace, energies);
    EXPECT_THAT(energies, testing::Each(Energy{}));
}

TYPED_TEST(FrequencyCompressorTest, RefusesWithAReason) {
    using T = typename TypeParam::T;
    using Tested = typename TestFixture::Compressor;
    EXPECT_THAT([] { Tested(0, 0); }, refuses("n is 0, must be at least 1"));
    EXPECT_THAT([] { Tested(4, 0); }, refuses("kept is 0, must be 1 to n, which is 4"));
    EXPECT_THAT([] { Tested(4, 5); }, refuses("kept is 5, must be 1 to n, which is 4"));
    EXPECT_THAT([] { Tested(4, -1); }, refuses("kept is -1, must be 1 to n, which is 4"));

    const Tested compressor(4, 2);
    std::vector<T> x(100, T(1)), z(100, T(2));
    std::vector<Energy> energies(2);
    Workspace workspace;
    const auto forward = [&](Index in_heads, Index in_tokens, Index in_dim, Index out_heads, Index out_tokens,
                             Index out_dim, bool with_data = true, std::size_t energy_count = 0) {
        return [=, &x, &z, &workspace, &compressor, &energies] {
            compressor.forward(KVView<const T>(with_data ? x.data() : nullptr, in_heads, in_tokens, in_dim),
                               KVView<T>(z.data(), out_heads, out_tokens, out_dim), workspace,
                               std::span(energies).first(energy_count));
        };
    };
    EXPECT_THAT(forward(3, 5, 2, 3, 2, 2), refuses("in.tokens is 5, must be 4"));
    EXPECT_THAT(forward(3, 4, 2, 3, 3, 2), refuses("out.tokens is 3, must be 2"));
    EXPECT_THAT(forward(3, 4, 2, 4, 2, 2), refuses("out.heads is 4, must be 3"));
    EXPECT_THAT(forward(3, 4, 2, 3, 2, 1), refuses("out.head_dim is 1, must be 2"));
    EXPECT_THAT(forward(-1, 4, 2, -1, 2, 2), refuses("in.heads is -1, must not be negative"));
    EXPECT_THAT(forward(3, 4, -2, 3, 2, -2), refuses("in.head_dim is -2, must not be negative"));
    EXPECT_THAT(forward(3, 4, 2, 3, 2, 2, false), refuses("in.data is 0, must not be null"));
    EXPECT_THAT(forward(3, 4, 2, 3, 2, 2, true, 2), refuses("energies.size() is 2, must be 0 or in.heads, which is 3"));
    EXPECT_THAT(
        [&] { compressor.adjoint(KVView<const T>(x.data(), 3, 4, 2), KVView<T>(z.data(), 3, 4, 2), workspace); },
        refuses("in.tokens is 4, must be 2"));
    EXPECT_THAT(z, testing::Each(T(2)));
    EXPECT_EQ(workspace.bytes(), 0);
}

}  // namespace
