// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <vector>

// What the tests compare with: the formulas as they stand in the paper, over plain vectors, sharing no
// code with the library.
namespace naive {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

struct Rotary {
    std::size_t rotated_dims = 0;
    double base = 10000;
    bool adjacent = true;  // pairs (2i, 2i + 1), else (i, i + rotated_dims / 2)
    double linear_scaling = 1;
    std::vector<double> frequency_factors{};  // empty: all 1
};

// x turned by +position (or -position, which un-rotates).
template <class Position>
Row rotated(const Row& x, Position position, const Rotary& rotary) {
    Row y = x;
    const std::size_t pairs = rotary.rotated_dims / 2;
    for (std::size_t i = 0; i < pairs; ++i) {
        const long double factor = rotary.frequency_factors.empty() ? 1 : rotary.frequency_factors[i];
        const long double exponent = 2 * static_cast<long double>(i) / static_cast<long double>(rotary.rotated_dims);
        const long double frequency = 1 / std::pow(static_cast<long double>(rotary.base), exponent) / factor;
        const long double angle = static_cast<long double>(position) / rotary.linear_scaling * frequency;
        const std::size_t a = rotary.adjacent ? 2 * i : i;
        const std::size_t b = rotary.adjacent ? 2 * i + 1 : i + pairs;
        y[a] = static_cast<double>(x[a] * std::cos(angle) - x[b] * std::sin(angle));
        y[b] = static_cast<double>(x[a] * std::sin(angle) + x[b] * std::cos(angle));
    }
    return y;
}

// Row k of the orthonormal DCT-II of length n at sample i.
inline long double cosine(std::size_t k, std::size_t i, std::size_t n) {
    const auto turns = static_cast<long double>((2 * i + 1) * k) / static_cast<long double>(2 * n);
    return std::sqrt((k == 0 ? 1.0L : 2.0L) / static_cast<long double>(n)) *
           std::cos(std::numbers::pi_v<long double> * turns);
}

// The orthonormal DCT-II along the rows.
inline Rows dct(const Rows& x) {
    const std::size_t n = x.size();
    Rows y(n, Row(x.front().size()));
    for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t i = 0; i < n; ++i) {
            const auto weight = static_cast<double>(cosine(k, i, n));
            for (std::size_t c = 0; c < y[k].size(); ++c) y[k][c] += weight * x[i][c];
        }
    }
    return y;
}

// Its inverse, the orthonormal DCT-III.
inline Rows inverse_dct(const Rows& y) {
    const std::size_t n = y.size();
    Rows x(n, Row(y.front().size()));
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t k = 0; k < n; ++k) {
            const auto weight = static_cast<double>(cosine(k, i, n));
            for (std::size_t c = 0; c < x[i].size(); ++c) x[i][c] += weight * y[k][c];
        }
    }
    return x;
}

// Equations 6 to 8: n rows become `keep`.
inline Rows low_passed(const Rows& x, std::size_t keep) {
    Rows y = dct(x);
    y.resize(keep);
    for (Row& row : y) {
        for (double& value : row) value *= std::sqrt(static_cast<double>(keep) / static_cast<double>(x.size()));
    }
    return inverse_dct(y);
}

// The last `keep` of them, which a local window has left.
inline Rows latest(const Rows& x, std::size_t keep) { return {x.end() - static_cast<std::ptrdiff_t>(keep), x.end()}; }

inline double dot(const Row& a, const Row& b) {
    double sum = 0;
    for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
    return sum;
}

// The sum of squares of rows [first, last).
inline double energy(const Rows& x, std::size_t first, std::size_t last) {
    double sum = 0;
    for (std::size_t i = first; i < last; ++i) sum += dot(x[i], x[i]);
    return sum;
}

// One query's softmax attention; rows are as rotated as the query is.
inline Row attended(const Row& query, const Rows& keys, const Rows& values) {
    Row weights;
    for (const Row& key : keys) weights.push_back(dot(query, key) / std::sqrt(static_cast<double>(query.size())));
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    Row result(values.front().size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        for (std::size_t d = 0; d < result.size(); ++d) result[d] += weights[i] / sum * values[i][d];
    }
    return result;
}

// Uniform in [-1, 1), the same on every platform.
class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    double operator()() { return static_cast<double>(engine_() >> 11) * 0x1p-52 - 1; }

private:
    std::mt19937_64 engine_;
};

}  // namespace naive
