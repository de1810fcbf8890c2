// SPDX-License-Identifier: MIT
#include "llama/model/matrix_product.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "freqkv/executor.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/naive_row.hpp"
#include "llama/random_weights.hpp"

namespace llama {
namespace {

using test::random_values;
using test::RandomWeights;

struct Case {
    WeightType type;
    Index tokens, inputs, outputs;
};

void check_product(const Case& c) {
    const RandomWeights first(c.type, c.outputs, c.inputs, 2);
    const RandomWeights second(c.type, c.outputs / 2 + 1, c.inputs, 3);
    const std::vector<float> x = random_values(c.tokens * c.inputs, 1);
    const std::vector<float> bias = random_values(c.outputs, 4);
    const auto multiplied = [&](const auto& executor) {
        std::vector<std::vector<float>> y;
        y.emplace_back(static_cast<std::size_t>(c.tokens * first.get().rows));
        y.emplace_back(static_cast<std::size_t>(c.tokens * second.get().rows));
        multiply({{first.get(), y[0].data(), bias.data()}, {second.get(), y[1].data()}}, x.data(), c.tokens, executor);
        return y;
    };
    const std::vector<std::vector<float>> y = multiplied(freqkv::SerialExecutor{});
    const auto check = [&](Weights w, const std::vector<float>& result, const float* added) {
        std::vector<float> row(static_cast<std::size_t>(c.inputs));
        double error = 0;
        for (Index r = 0; r < w.rows; ++r) {
            dequantize(w, r, 0, c.inputs, row.data());
            for (Index t = 0; t < c.tokens; ++t) {
                double sum = added == nullptr ? 0 : static_cast<double>(added[r]);
                double size = 1;
                for (Index i = 0; i < c.inputs; ++i) {
                    const double product = static_cast<double>(x[static_cast<std::size_t>(t * c.inputs + i)]) *
                                           static_cast<double>(row[static_cast<std::size_t>(i)]);
                    sum += product;
                    size += std::abs(product);
                }
                const float got = result[static_cast<std::size_t>(t * w.rows + r)];
                error = std::max(error, std::abs(static_cast<double>(got) - sum) / size);
            }
        }
        EXPECT_LT(error, 1e-6) << c.tokens << " tokens, " << c.inputs << " columns, " << w.rows << " rows";
    };
    check(first.get(), y[0], bias.data());
    check(second.get(), y[1], nullptr);
#if defined(_OPENMP)
    EXPECT_EQ(y, multiplied(freqkv::OpenMPExecutor(2))) << "threads matter";
#endif
}

// Sizes around every boundary of the tasks, and on both sides of what is given to other threads.
TEST(MatrixProduct, OfFloatsAgreesWithTheDefinition) {
    for (const Index tokens : {1, 2, 7, 257}) {
        for (const Index inputs : {1, 3, 64, 300}) {
            for (const Index outputs : {1, 7, 128, 129, 700}) check_product({WeightType::f32, tokens, inputs, outputs});
        }
    }
}

class MatrixProductOfType : public testing::TestWithParam<WeightType> {};

TEST_P(MatrixProductOfType, AgreesWithTheDefinition) {
    const Index block = format_of(GetParam()).block;
    for (const Index tokens : {1, 2, 9, 257}) {
        for (const Index inputs : {Index{1}, Index{3}, Index{8}, Index{43}}) {
            for (const Index outputs : {1, 130}) {
                check_product({GetParam(), tokens, inputs * block, outputs});
            }
        }
    }
    // More columns than are converted at once.
    for (const Index tokens : {1, 5}) check_product({GetParam(), tokens, 2048 + 256, 9});
}

INSTANTIATE_TEST_SUITE_P(Types, MatrixProductOfType, testing::ValuesIn(test::all_types),
                         [](const auto& type) { return format_of(type.param).name; });

}  // namespace
}  // namespace llama
