// SPDX-License-Identifier: MIT
#include "freqkv/detail/transform/column_fft.hpp"

#include <gtest/gtest.h>

#include <complex>
#include <numbers>
#include <string>
#include <vector>

#include "freqkv/detail/transform/butterflies.hpp"
#include "naive.hpp"

namespace {

using namespace freqkv;

using Points = std::vector<std::complex<double>>;

Points naive_fft(const Points& x) {
    const std::size_t n = x.size();
    Points result(n);
    for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t i = 0; i < n; ++i) {
            const double turn = -2 * std::numbers::pi * static_cast<double>(i * k % n) / static_cast<double>(n);
            result[k] += x[i] * std::polar(1.0, turn);
        }
    }
    return result;
}

Points random_points(Index n, std::uint64_t seed) {
    naive::Random random(seed);
    Points x(static_cast<std::size_t>(n));
    for (auto& point : x) point = {random(), random()};
    return x;
}

double largest_difference(const Points& a, const Points& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
    return largest;
}

// The butterflies work on plain numbers as on registers.
template <int R>
void check_butterfly() {
    const Points x = random_points(R, R);
    detail::Complex<double> points[R];
    for (std::size_t i = 0; i < R; ++i) points[i] = {x[i].real(), x[i].imag()};
    detail::Butterfly<R>::run(points);
    Points result(R);
    for (std::size_t i = 0; i < R; ++i) result[i] = {points[i].re, points[i].im};
    EXPECT_LT(largest_difference(result, naive_fft(x)), 1e-14) << "transform of " << R << " points";
}

template <class T>
class ColumnFftTest : public testing::Test {
protected:
    // The transform of x in lane `lane`, with other data in all others.
    static Points transform(const Points& x, Index lane) {
        const auto n = static_cast<Index>(x.size());
        const detail::ColumnFft<T> fft(n);
        constexpr Index point = detail::point_size<T>;
        std::vector<T> matrix(static_cast<std::size_t>(fft.matrix_size()));
        std::vector<T> scratch(static_cast<std::size_t>(fft.scratch_size()), T(1e30));
        naive::Random random(99);
        for (T& value : matrix) value = static_cast<T>(random());
        const auto at = [&](Index row, Index i) { return matrix.data() + row * fft.row_stride() + i * point + lane; };
        for (Index i = 0; i < n; ++i) {
            T* const to = at(i / fft.row_points(), i % fft.row_points());
            to[0] = static_cast<T>(x[static_cast<std::size_t>(i)].real());
            to[point / 2] = static_cast<T>(x[static_cast<std::size_t>(i)].imag());
        }
        fft.transform_columns(matrix.data(), scratch.data());
        for (Index row = 0; row < fft.rows(); ++row) fft.transform_row(row, matrix.data(), scratch.data());
        Points result(x.size());
        for (Index k = 0; k < n; ++k) {
            const T* const from = at(k % fft.rows(), k / fft.rows());
            result[static_cast<std::size_t>(k)] = {static_cast<double>(from[0]), static_cast<double>(from[point / 2])};
        }
        return result;
    }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(ColumnFftTest, Elements);

TEST(Butterfly, IsTheDefinition) {
    check_butterfly<1>();
    check_butterfly<2>();
    check_butterfly<3>();
    check_butterfly<4>();
    check_butterfly<5>();
    check_butterfly<6>();
    check_butterfly<7>();
    check_butterfly<8>();
    check_butterfly<10>();
    check_butterfly<11>();
    check_butterfly<12>();
    check_butterfly<13>();
}

TYPED_TEST(ColumnFftTest, IsTheDefinition) {
    const double tolerance = std::is_same_v<TypeParam, float> ? 2e-6 : 1e-14;
    // All small ones, products of every radix in one row and as a matrix, squares of primes, and lengths that
    // have to be convolved: large primes and their products.
    std::vector<Index> lengths;
    for (Index n = 1; n <= 140; ++n) lengths.push_back(n);
    for (const Index n : {144, 169, 210, 256, 289, 360, 512, 720, 961, 1001, 1024, 131, 262, 257, 514, 1031}) {
        lengths.push_back(n);
    }
    for (const Index n : lengths) {
        const Points x = random_points(n, static_cast<std::uint64_t>(n));
        const Points expected = naive_fft(x);
        const double scale = std::sqrt(static_cast<double>(n));
        for (const Index lane : {Index{0}, detail::lane_count<TypeParam> - 1}) {
            EXPECT_LT(largest_difference(TestFixture::transform(x, lane), expected), tolerance * scale)
                << "transform of " << n << " points in lane " << lane;
        }
    }
}

}  // namespace
