// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <type_traits>
#include <vector>

#include "freqkv/dct_plan.hpp"
#include "naive.hpp"
#include "transform_cases.hpp"

namespace freqkv::dct_test {

// Lengths 1 to 64, primes, neighbours of powers of two, and some with many factors.
inline std::vector<Index> lengths() {
    std::vector<Index> all;
    for (Index n = 1; n <= 64; ++n) all.push_back(n);
    for (const Index n : {67, 97, 100, 127, 128, 129, 251, 255, 256, 257, 360, 509}) all.push_back(n);
    return all;
}

// Random input of three columns and its transform, made once.
struct Example {
    naive::Rows x, transform;
};
inline const Example& example(Index n) {
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

}  // namespace freqkv::dct_test
