// SPDX-License-Identifier: MIT
#include "freqkv/cuda/frequency_compressor.cuh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "cuda/compressor_cases.cuh"
#include "device_limits.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/dct_plan.cuh"
#include "naive.hpp"

namespace freqkv::cuda::compressor_test {
namespace {

TYPED_TEST_SUITE(DeviceCompressor, ElementTypes, ElementNames);

// ---------------------------------------------------------------------------------------------------
// The definition, over all kinds of lengths.

// Equations 6 to 8 as sums over tables of cosines in double, for three columns. All coefficients are made once, rows of
// a compression one by one.
class Definition {
public:
    using Three = std::array<double, 3>;

    explicit Definition(const std::vector<Three>& x) : n_(static_cast<Index>(x.size())) {
        const std::vector<double> cosines = cosines_of(n_);
        for (Index k = 0; k < n_; ++k) {
            const double factor = std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(n_));
            Three sum{};
            Index turn = k;  // (2 i + 1) k in quarters of the n-th part of a turn
            for (const Three& row : x) {
                const double weight = factor * cosines[static_cast<std::size_t>(turn)];
                for (std::size_t c = 0; c < 3; ++c) sum[c] += weight * row[c];
                turn = (turn + 2 * k) % (4 * n_);
            }
            transform_.push_back(sum);
        }
    }

    // Rows `wanted` of the compression to `kept`.
    std::vector<Three> rows(Index kept, const std::vector<Index>& wanted) const {
        const std::vector<double> cosines = cosines_of(kept);
        const double scale = std::sqrt(static_cast<double>(kept) / static_cast<double>(n_));
        std::vector<Three> result;
        for (const Index i : wanted) {
            Three sum{};
            Index turn = 0;
            for (Index k = 0; k < kept; ++k) {
                const double factor = scale * std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(kept));
                const double weight = factor * cosines[static_cast<std::size_t>(turn)];
                for (std::size_t c = 0; c < 3; ++c) sum[c] += weight * transform_[static_cast<std::size_t>(k)][c];
                turn = (turn + 2 * i + 1) % (4 * kept);
            }
            result.push_back(sum);
        }
        return result;
    }

private:
    static std::vector<double> cosines_of(Index n) {
        std::vector<double> cosines;
        for (Index turn = 0; turn < 4 * n; ++turn) {
            cosines.push_back(std::cos(std::numbers::pi * static_cast<double>(turn) / static_cast<double>(2 * n)));
        }
        return cosines;
    }

    Index n_;
    std::vector<Three> transform_;
};

// All rows of a short result; of a long one the first, the last, and some between.
std::vector<Index> looked_at(Index rows) {
    std::vector<Index> result;
    for (Index i = 0; i < rows; i += std::max<Index>(1, rows / 64)) result.push_back(i);
    if (result.back() != rows - 1) result.push_back(rows - 1);
    return result;
}

template <class T>
void expect_the_definition(Index n) {
    constexpr Index heads = 2, dim = 20;
    const auto column = [](Index h, Index d) { return static_cast<std::size_t>((h * dim + d) % 3); };
    naive::Random next(static_cast<std::uint64_t>(n));
    std::vector<Definition::Three> x(static_cast<std::size_t>(n));
    for (Definition::Three& row : x) row = {stored<T>(next()), stored<T>(next()), stored<T>(next())};
    const Definition definition(x);
    Tensor<T> in(heads, n, dim, Layout::token_major);
    in.fill_with([&](Index h, Index t, Index d) { return x[static_cast<std::size_t>(t)][column(h, d)]; });

    std::vector<Index> swept{1, n / 2, n - 1, n};
    swept.erase(std::unique(swept.begin(), swept.end()), swept.end());
    for (const Index kept : swept) {
        SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept));
        if (!fits_device(n) || !fits_device(kept)) {
            EXPECT_THAT([&] { FrequencyCompressor(n, kept); }, refuses("too large for the device"));
            continue;
        }
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> out(heads, kept, dim, Layout::token_major);
        compressor.forward(in.view(), out.view());
        out.download();
        const std::vector<Index> wanted = looked_at(kept);
        const std::vector<Definition::Three> rows = definition.rows(kept, wanted);
        naive::Rows result, expected;
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            for (Index h = 0; h < heads; ++h) {
                result.push_back(out.row(h, wanted[i]));
                expected.emplace_back();
                for (Index d = 0; d < dim; ++d) expected.back().push_back(rows[i][column(h, d)]);
            }
        }
        EXPECT_LT(largest_error<T>(result, expected), tolerance);
        out.expect_rest_untouched();
    }
}

TYPED_TEST(DeviceCompressor, IsTheDefinitionAtAllShortLengths) {
    for (Index n = 2; n <= 130; ++n) expect_the_definition<TypeParam>(n);
}

TYPED_TEST(DeviceCompressor, IsTheDefinitionAtLongLengthsAndPrimes) {
    for (const Index n : {255,  256,  257,  509,  512,  1000, 1021, 1023, 1024, 2039, 2046, 2047,
                          2048, 4091, 4092, 4093, 4096, 5000, 6561, 7919, 8188, 8191, 8192}) {
        expect_the_definition<TypeParam>(n);
    }
}

TYPED_TEST(DeviceCompressor, ConstantsKeepTheirValue) {
    using T = TypeParam;
    for (const auto& [n, kept] :
         {std::pair<Index, Index>{2, 1}, {7, 3}, {60, 30}, {60, 59}, {37, 36}, {4092, 2046}, {4096, 2048}}) {
        Tensor<T> in(1, n, 6);
        in.fill_with([](Index, Index, Index d) { return static_cast<double>(d + 1) / 3; });
        Tensor<T> out(1, kept, 6);
        FrequencyCompressor(n, kept).forward(in.view(), out.view());
        out.download();
        for (Index t = 0; t < kept; ++t) {
            for (std::size_t d = 0; d < 6; ++d) {
                const double value = in.row(0, 0)[d];
                // 16 bits hold exactly what they held.
                const double allowed = std::is_same_v<T, float> ? 6e-7 * value : 0;
                ASSERT_NEAR(out.row(0, t)[d], value, allowed) << n << " to " << kept << ", entry " << t;
            }
        }
    }
}

// Rounding y by r changes <y, z> by at most r |y| |z|.
TYPED_TEST(DeviceCompressor, AdjointIsTheTranspose) {
    using T = TypeParam;
    constexpr Index heads = 2, dim = 9;
    for (const auto& [n, kept] :
         {std::pair<Index, Index>{1, 1}, {2, 1}, {64, 32}, {60, 59}, {62, 31}, {37, 18}, {1000, 250}, {4093, 2046}}) {
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> x(heads, n, dim);
        Tensor<T> z(heads, kept, dim);
        x.fill(24);
        z.fill(25);
        Tensor<T> cx(heads, kept, dim);
        Tensor<T> ctz(heads, n, dim);
        compressor.forward(x.view(), cx.view());
        compressor.adjoint(z.view(), ctz.view());
        cx.download();
        ctz.download();
        for (Index h = 0; h < heads; ++h) {
            const auto product = [h](const Tensor<T>& a, const Tensor<T>& b) {
                double sum = 0;
                for (Index t = 0; t < a.tokens(); ++t) sum += naive::dot(a.row(h, t), b.row(h, t));
                return sum;
            };
            const auto norm = [&](const Tensor<T>& a) { return std::sqrt(product(a, a)); };
            EXPECT_NEAR(product(cx, z), product(x, ctz),
                        (rounding<T> + tolerance) * (norm(cx) * norm(z) + norm(x) * norm(ctz)))
                << n << " to " << kept;
        }
    }
}

// The transform by itself, in all element types; cuda_host_test has the host's tests of it in float.
TYPED_TEST(DeviceCompressor, PlansTransformAllElementTypes) {
    using T = TypeParam;
    constexpr Index columns = 11;
    for (const auto& [n, kept] : typical_lengths) {
        Tensor<T> x(1, n, columns, Layout::transposed);
        Tensor<T> y(1, kept, columns, Layout::backwards);
        Tensor<T> back(1, n, columns, Layout::token_major);
        const auto matrix = [](const Tensor<T>& tensor) { return tensor.view().head(0); };
        x.fill(5);
        const DctPlan plan(n);
        EXPECT_EQ(plan.size(), n);
        plan.forward(matrix(x), matrix(y));
        plan.inverse(matrix(y), matrix(back));
        y.download();
        back.download();
        naive::Rows transform = naive::dct(x.rows(0));
        transform.resize(static_cast<std::size_t>(kept));
        EXPECT_LT(largest_error<T>(y.rows(0), transform), tolerance) << n;
        naive::Rows coefficients = y.rows(0);
        coefficients.resize(static_cast<std::size_t>(n), naive::Row(columns));
        EXPECT_LT(largest_error<T>(back.rows(0), naive::inverse_dct(coefficients)), tolerance) << n;
        y.expect_rest_untouched();
        back.expect_rest_untouched();
    }
}

// ---------------------------------------------------------------------------------------------------
// Any view.

TYPED_TEST(DeviceCompressor, AnyHeadDimAndStrides) {
    using T = TypeParam;
    constexpr Index heads = 3;
    for (const auto& [n, kept] : typical_lengths) {
        const FrequencyCompressor compressor(n, kept);
        for (const Index dim : {1, 3, 5, 7, 80, 128}) {
            Tensor<T> dense(heads, n, dim);
            dense.fill(static_cast<std::uint64_t>(dim));
            const Bits expected = this->forward(compressor, dense);
            for (const Layout layout : all_layouts) {
                SCOPED_TRACE(std::to_string(n) + " to " + std::to_string(kept) + ", " + std::to_string(dim) +
                             " dimensions, " + name_of(layout));
                Tensor<T> in(heads, n, dim, layout);
                Tensor<T> out(heads, kept, dim, layout);
                in.fill(static_cast<std::uint64_t>(dim));
                compressor.forward(in.view(), out.view());
                out.download();
                for (Index h = 0; h < heads; ++h) {
                    EXPECT_LT(largest_error<T>(out.rows(h), this->low_passed(in, h, kept)), tolerance);
                }
                EXPECT_TRUE(out.bits() == expected) << "bits depend on the layout";
                ASSERT_NO_FATAL_FAILURE(out.expect_rest_untouched());

                Tensor<T> adjoint(heads, n, dim, layout);
                compressor.adjoint(out.view(), adjoint.view());
                adjoint.download();
                ASSERT_NO_FATAL_FAILURE(adjoint.expect_rest_untouched());

                // In place.
                const KVView<T> all = in.view();
                const KVView<T> first = all.middle_tokens(0, kept);
                compressor.forward(all, first);
                in.download();
                EXPECT_TRUE(in.bits(0, kept) == out.bits()) << "in place";
                compressor.adjoint(first, all);
                in.download();
                EXPECT_TRUE(in.bits() == adjoint.bits()) << "the adjoint in place";
                ASSERT_NO_FATAL_FAILURE(in.expect_rest_untouched());
            }
        }
    }
}

TYPED_TEST(DeviceCompressor, LayoutsMayDiffer) {
    using T = TypeParam;
    const FrequencyCompressor compressor(60, 30);
    for (const Layout from : all_layouts) {
        for (const Layout to : all_layouts) {
            Tensor<T> in(2, 60, 16, from);
            Tensor<T> out(2, 30, 16, to);
            in.fill(6);
            compressor.forward(in.view(), out.view());
            out.download();
            for (Index h = 0; h < 2; ++h) {
                EXPECT_LT(largest_error<T>(out.rows(h), this->low_passed(in, h, 30)), tolerance)
                    << name_of(from) << " to " << name_of(to);
            }
            ASSERT_NO_FATAL_FAILURE(out.expect_rest_untouched());
        }
    }
}

// Complex columns of two dimensions do not mix.
TYPED_TEST(DeviceCompressor, NotANumberStaysInItsPairOfDimensions) {
    using T = TypeParam;
    for (const auto& [n, kept] : typical_lengths) {
        Tensor<T> in(2, n, 12);
        in.fill(15);
        const FrequencyCompressor compressor(n, kept);
        Tensor<T> clean(2, kept, 12);
        compressor.forward(in.view(), clean.view());
        clean.download();
        in.set(1, 3, 4, std::nan(""));
        in.upload();
        Tensor<T> out(2, kept, 12);
        compressor.forward(in.view(), out.view());
        out.download();
        for (Index t = 0; t < kept; ++t) {
            EXPECT_EQ(out.row(0, t), clean.row(0, t));
            for (std::size_t d = 0; d < 12; ++d) {
                if (d == 4) {
                    EXPECT_TRUE(std::isnan(out.row(1, t)[d]));
                } else if (d != 5) {
                    EXPECT_EQ(out.row(1, t)[d], clean.row(1, t)[d]) << "dimension " << d;
                }
            }
        }
    }
}

}  // namespace
}  // namespace freqkv::cuda::compressor_test
