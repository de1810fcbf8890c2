// SPDX-License-Identifier: MIT
#include "llama/training/blocks_backward.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "llama/model/random.hpp"

// The backward passes in double against central differences of the functions as they are defined.
namespace llama {
namespace {

using Vector = std::vector<double>;

// One element, odd numbers, and more than one piece of what works in pieces.
const Index sizes[] = {1, 2, 7, 255, 256, 257, 601};

Vector random_values(Index count, std::uint64_t seed) {
    Random random(seed);
    Vector values(static_cast<std::size_t>(count));
    for (double& value : values) value = 4 * random.uniform() - 2;
    return values;
}

double dot(const Vector& a, const Vector& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

Vector sum(Vector a, const Vector& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}

// The gradient of a scalar function of x, which leaves x as it was.
template <class F>
Vector difference_gradient(Vector& x, F&& f) {
    constexpr double step = 1e-5;
    Vector gradient;
    for (double& value : x) {
        const double kept = value;
        value = kept + step;
        const double above = f();
        value = kept - step;
        gradient.push_back((above - f()) / (2 * step));
        value = kept;
    }
    return gradient;
}

void expect_near(const char* what, const Vector& actual, const Vector& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    double largest = 0;
    for (const double value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], 1e-6 * std::max(1.0, largest)) << what << ", element " << i;
    }
}

// --- rms_norm

constexpr double epsilon = 1e-3;

Vector naive_rms_norm(const Vector& x, const Vector& weight) {
    const double root = std::sqrt(dot(x, x) / static_cast<double>(x.size()) + epsilon);
    Vector y;
    for (std::size_t i = 0; i < x.size(); ++i) y.push_back(x[i] / root * weight[i]);
    return y;
}

TEST(RmsNormBackward, AddsTheGradientsOfInputAndWeight) {
    for (const Index n : sizes) {
        SCOPED_TRACE(n);
        Vector x = random_values(n, 1);
        Vector weight = random_values(n, 2);
        const Vector d_y = random_values(n, 3);
        const auto scalar = [&] { return dot(naive_rms_norm(x, weight), d_y); };
        const Vector before = random_values(n, 4);
        Vector d_x = before;
        Vector d_weight = before;
        rms_norm_backward(x.data(), weight.data(), d_y.data(), d_x.data(), d_weight.data(), n, epsilon);
        expect_near("input", d_x, sum(before, difference_gradient(x, scalar)));
        expect_near("weight", d_weight, sum(before, difference_gradient(weight, scalar)));

        Vector alone = before;
        rms_norm_backward<double>(x.data(), weight.data(), d_y.data(), alone.data(), nullptr, n, epsilon);
        EXPECT_EQ(alone, d_x) << "without the weight's gradient";
    }
}

TEST(RmsNormBackward, OfZerosIsFinite) {
    const Vector x(5, 0.0);
    const Vector weight = random_values(5, 1);
    const Vector d_y = random_values(5, 2);
    Vector d_x(5), d_weight(5), expected;
    rms_norm_backward(x.data(), weight.data(), d_y.data(), d_x.data(), d_weight.data(), 5, epsilon);
    for (std::size_t i = 0; i < x.size(); ++i) expected.push_back(d_y[i] * weight[i] / std::sqrt(epsilon));
    expect_near("input", d_x, expected);
    EXPECT_EQ(d_weight, Vector(5, 0.0));
}

// --- swiglu

double silu(double x) { return x / (1 + std::exp(-x)); }

TEST(SwiGluBackward, WritesTheGradientsOfBothInputs) {
    for (const Index n : sizes) {
        SCOPED_TRACE(n);
        Vector gate = random_values(n, 5);
        Vector up = random_values(n, 6);
        const Vector d_y = random_values(n, 7);
        const auto scalar = [&] {
            double result = 0;
            for (std::size_t i = 0; i < gate.size(); ++i) result += silu(gate[i]) * up[i] * d_y[i];
            return result;
        };
        Vector d_gate(gate.size(), 1e9), d_up(gate.size(), 1e9);
        swiglu_backward(gate.data(), up.data(), d_y.data(), d_gate.data(), d_up.data(), n);
        expect_near("gate", d_gate, difference_gradient(gate, scalar));
        expect_near("up", d_up, difference_gradient(up, scalar));

        Vector in_place = d_y;
        Vector other(gate.size(), 1e9);
        swiglu_backward(gate.data(), up.data(), in_place.data(), in_place.data(), other.data(), n);
        EXPECT_EQ(in_place, d_gate) << "where d_y was";
        EXPECT_EQ(other, d_up);
        in_place = d_y;
        swiglu_backward(gate.data(), up.data(), in_place.data(), other.data(), in_place.data(), n);
        EXPECT_EQ(in_place, d_up) << "where d_y was";
        EXPECT_EQ(other, d_gate);
    }
}

TEST(SwiGluBackward, OfGatesFarFromZeroIsFinite) {
    for (const float gate : {-100.0f, -88.0f, 88.0f, 100.0f}) {
        const float up = 2, d_y = 3;
        float d_gate = 0, d_up = 0;
        swiglu_backward(&gate, &up, &d_y, &d_gate, &d_up, 1);
        const bool open = gate > 0;
        EXPECT_NEAR(d_gate, open ? 6 : 0, 1e-4) << gate;
        EXPECT_NEAR(d_up, open ? 3 * gate : 0, 1e-3) << gate;
    }
}

// --- cross-entropy

double naive_loss(const Vector& logits, std::size_t target) {
    double exponentials = 0;
    for (const double z : logits) exponentials += std::exp(z);
    return std::log(exponentials) - logits[target];
}

TEST(CrossEntropyBackward, TurnsLogitsIntoTheirGradient) {
    for (const Index n : sizes) {
        for (const Index target : {Index{0}, n / 2, n - 1}) {
            SCOPED_TRACE(testing::Message() << "target " << target << " of " << n);
            Vector logits = random_values(n, 8);
            const auto place = static_cast<std::size_t>(target);
            constexpr double weight = 0.375;
            const double expected_loss = naive_loss(logits, place);
            const Vector expected = difference_gradient(logits, [&] { return weight * naive_loss(logits, place); });
            const double loss = cross_entropy_backward(logits.data(), n, target, weight);
            EXPECT_NEAR(loss, expected_loss, 1e-12 * static_cast<double>(n));
            expect_near("logits", logits, expected);
            EXPECT_NEAR(std::accumulate(logits.begin(), logits.end(), 0.0), 0, 1e-12);
        }
    }
}

TEST(CrossEntropyBackward, OfLogitsFarApartIsFinite) {
    std::vector<float> logits{3e4f, -3e4f, 0, 2.9e4f};
    EXPECT_FLOAT_EQ(static_cast<float>(cross_entropy_backward(logits.data(), 4, 1, 0.5f)), 6e4f);
    // Eigen's exponential of a very negative number is 0 or, with narrower registers, the least that is none.
    EXPECT_THAT(logits, testing::Pointwise(testing::FloatNear(1e-30f), {0.5f, -0.5f, 0.0f, 0.0f}));
}

}  // namespace
}  // namespace llama
