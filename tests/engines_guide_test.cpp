// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "docs/engines.hpp"  // made of docs/engines.md
#include "random_tokens.hpp"

// The engine that docs/engines.md speaks of.
void rotate(float* x, Index heads, Index dim, Index position) {
    for (Index h = 0; h < heads; ++h) {
        for (Index d = 0; d < dim; d += 2) {
            const double angle =
                static_cast<double>(position) * std::pow(10000.0, -static_cast<double>(d) / static_cast<double>(dim));
            float* const pair = x + h * dim + d;
            const double a = static_cast<double>(pair[0]), b = static_cast<double>(pair[1]);
            pair[0] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
            pair[1] = static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
        }
    }
}

void attend_head(const float* q, const float* keys, const float* values, Index entries, Index stride, Index dim,
                 float* out) {
    std::vector<double> weights;
    double largest = -1e30, sum = 0;
    for (Index i = 0; i < entries; ++i) {
        double score = 0;
        for (Index d = 0; d < dim; ++d) {
            score += static_cast<double>(q[d]) * static_cast<double>(keys[i * stride + d]);
        }
        weights.push_back(score / std::sqrt(static_cast<double>(dim)));
        largest = std::max(largest, weights.back());
    }
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (Index d = 0; d < dim; ++d) {
        double mean = 0;
        for (Index i = 0; i < entries; ++i) {
            mean += weights[static_cast<std::size_t>(i)] * static_cast<double>(values[i * stride + d]);
        }
        out[d] = static_cast<float>(mean / sum);
    }
}

namespace {

using testing::FloatNear;
using testing::Pointwise;

TEST(EnginesGuide, TheThreeWaysComputeTheSame) {
    const Shape shape{.heads = 4, .kv_heads = 2, .dim = 16, .capacity = 64};
    const Index tokens = 3 * shape.capacity, q_row = shape.heads * shape.dim, kv_row = shape.kv_heads * shape.dim;
    const naive::RandomTokens<float> queries(shape.heads, tokens, shape.dim, 1),
        keys(shape.kv_heads, tokens, shape.dim, 2), values(shape.kv_heads, tokens, shape.dim, 3);
    const float *q = queries.view().data, *k = keys.view().data, *v = values.view().data;
    std::vector<float> expected(static_cast<std::size_t>(tokens * q_row));
    LayerOfLibrary first(shape);
    first.attend(tokens, q, k, v, expected.data());
    ASSERT_GE(first.cache.compressions(), 4);

    LayerWithOwnAttention second(shape);
    LayerInPlace third(shape);
    for (Index t = 0; t < tokens; ++t) {
        const auto attend = [&](auto& layer) {
            std::vector<float> query(q + t * q_row, q + (t + 1) * q_row), out(query.size());
            layer.attend(query.data(), k + t * kv_row, v + t * kv_row, out.data());
            return out;
        };
        const std::vector<float> wanted(expected.begin() + t * q_row, expected.begin() + (t + 1) * q_row);
        ASSERT_THAT(attend(second), Pointwise(FloatNear(1e-4F), wanted)) << "own attention, token " << t;
        ASSERT_THAT(attend(third), Pointwise(FloatNear(1e-4F), wanted)) << "in place, token " << t;
    }
    EXPECT_EQ(third.length, first.cache.size());
}

}  // namespace
