// SPDX-License-Identifier: MIT
#include "llama/model/products/kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <Eigen/Core>

#include "freqkv/executor.hpp"
#include "freqkv/workspace.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/matrix_product.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/random_weights.hpp"

namespace llama {
namespace {

using detail::BFloat16Kernels;
using detail::ByteActivations;
using detail::ByteKernels;
using detail::padded;
using detail::WeightRows;
using test::random_values;
using test::RandomWeights;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// Random weights and activations, and what their products should be.
struct Problem {
    Problem(WeightType type, Index row_count, Index column_count, Index token_count)
        : weights(type, row_count, column_count, 2),
          x(random_values(token_count * column_count, 1)),
          rows(row_count),
          columns(column_count),
          tokens(token_count),
          out(at(token_count * row_count), NAN) {
        // Some small, some zeros.
        for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i / 32 % 5 == 3 ? 1e-3F : i / 32 % 7 == 6 ? 0 : 1;
    }

    WeightRows weight_rows() const {
        const Weights w = weights.get();
        return {w.data, w.type, w.row_bytes(), w.rows, w.columns};
    }

    // The largest error of out, of its size, for weights as `rounded` has them and these activations.
    template <class F>
    double error(const std::vector<float>& activations, Index first_tokens, F&& rounded) const {
        std::vector<float> row(at(columns));
        double worst = 0;
        for (Index r = 0; r < rows; ++r) {
            dequantize(weights.get(), r, 0, columns, row.data());
            for (Index t = 0; t < first_tokens; ++t) {
                double sum = 0;
                double size = 1e-30;
                for (Index i = 0; i < columns; ++i) {
                    const double product = rounded(row[at(i)]) * static_cast<double>(activations[at(t * columns + i)]);
                    sum += product;
                    size += std::abs(product);
                }
                const double difference = std::abs(static_cast<double>(out[at(t * rows + r)]) - sum);
                worst = std::max(worst, std::isnan(difference) ? INFINITY : difference / size);
            }
        }
        return worst;
    }

    RandomWeights weights;
    std::vector<float> x;
    Index rows, columns, tokens;
    std::vector<float> out;  // [tokens, rows]
};

std::byte* scratch() {
    static const freqkv::AlignedBuffer<std::byte> memory(detail::tile_scratch);
    return memory.data();
}

// Activations of a problem, rounded by the kernels.
struct Bytes {
    Bytes(const ByteKernels& kernels, const Problem& problem)
        : bytes(problem.x.size()), scales(bytes.size() / 32), sums(scales.size()), half_sums(bytes.size() / 16) {
        const Index columns = problem.columns;
        for (Index t = 0; t < problem.tokens; ++t) kernels.round(&problem.x[at(t * columns)], columns, of(t * columns));
    }

    ByteActivations of(Index first) {
        return {&bytes[at(first)], &scales[at(first / 32)], &sums[at(first / 32)], &half_sums[at(first / 16)]};
    }

    std::vector<float> values() const {
        std::vector<float> x(bytes.size());
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = scales[i / 32] * static_cast<float>(bytes[i]);
        return x;
    }

    std::vector<std::int8_t> bytes;
    std::vector<float> scales, sums, half_sums;
};

// Sizes at the boundaries of registers, runs of blocks and what is unpacked at once.
std::vector<Index> columns_of(WeightType type) {
    const Index block = format_of(type).block;
    if (block == 1) return {1, 2, 31, 33, 64, 300, 2048 + 1};
    if (block == 32) return {32, 64, 224, 256, 288, 576, 2048 + 32};
    return {256, 512, 768, 2048 + 256};
}

class ProductsOfType : public testing::TestWithParam<WeightType> {};

class ByteKernelsOfType : public testing::TestWithParam<WeightType> {};

TEST_P(ByteKernelsOfType, AgreeWithTheDefinition) {
    if (detail::byte_kernels().empty()) GTEST_SKIP() << "this processor has none";
    const auto exact = [](float weight) { return static_cast<double>(weight); };
    for (const ByteKernels* const kernels : detail::byte_kernels()) {
        for (const Index columns : columns_of(GetParam())) {
            for (const Index rows : {1, 2, 7, 16, 33, 64}) {
                Problem problem(GetParam(), rows, columns, 40);
                Bytes x(*kernels, problem);
                const std::vector<float> rounded = x.values();
                const std::string what =
                    std::string(kernels->name) + ", " + std::to_string(rows) + " x " + std::to_string(columns);
                kernels->multiply_rows(problem.weight_rows(), x.of(0), problem.out.data());
                EXPECT_LT(problem.error(rounded, 1, exact), 1e-6) << what;
                for (const Index tokens : {1, 2, 3, 7, 40}) {
                    std::ranges::fill(problem.out, NAN);
                    kernels->multiply_tile(problem.weight_rows(), x.of(0), tokens, problem.out.data(), rows, scratch());
                    EXPECT_LT(problem.error(rounded, tokens, exact), 1e-6) << what << ", " << tokens << " tokens";
                    const auto written = static_cast<std::ptrdiff_t>(tokens * rows);
                    EXPECT_TRUE(std::all_of(problem.out.begin() + written, problem.out.end(), [](float y) {
                        return std::isnan(y);
                    })) << what;
                }
            }
        }
    }
}

TEST_P(ProductsOfType, InBFloat16AgreeWithTheDefinition) {
    if (detail::bfloat16_kernels().empty()) GTEST_SKIP() << "this processor has none";
    const auto nearest = [](float x) { return static_cast<float>(Eigen::bfloat16(x)); };
    for (const BFloat16Kernels* const kernels : detail::bfloat16_kernels()) {
        for (const Index columns : columns_of(GetParam())) {
            for (const Index rows : {1, 2, 7, 16, 33, 64}) {
                Problem problem(GetParam(), rows, columns, 40);
                const Index stride = padded(columns, detail::bfloat16_columns);
                std::vector<std::uint16_t> x(at(padded(problem.tokens, detail::bfloat16_tokens) * stride));
                std::vector<float> rounded = problem.x;
                for (Index t = 0; t < problem.tokens; ++t) {
                    kernels->round(&problem.x[at(t * columns)], columns, &x[at(t * stride)]);
                }
                for (float& value : rounded) value = nearest(value);
                for (const Index tokens : {1, 2, 3, 7, 40}) {
                    std::ranges::fill(problem.out, NAN);
                    kernels->multiply_tile(problem.weight_rows(), x.data(), tokens, problem.out.data(), rows,
                                           scratch());
                    EXPECT_LT(problem.error(rounded, tokens, [&](float w) { return static_cast<double>(nearest(w)); }),
                              1e-6)
                        << kernels->name << ", " << rows << " x " << columns << ", " << tokens << " tokens";
                    const auto written = static_cast<std::ptrdiff_t>(tokens * rows);
                    EXPECT_TRUE(std::all_of(problem.out.begin() + written, problem.out.end(),
                                            [](float y) { return std::isnan(y); }));
                }
            }
        }
    }
}

// The whole product: close to the exact one, and the same on any number of threads.
TEST_P(ProductsOfType, RoundedAreCloseToExactOnes) {
    const Index block = format_of(GetParam()).block;
    for (const Index tokens : {1, 3, 8, 9, 300}) {
        const Index inputs = block == 1 ? 500 : 512;
        const Index outputs = 300;
        const RandomWeights first(GetParam(), outputs, inputs, 2);
        const RandomWeights second(WeightType::f32, 5, inputs, 3);
        const std::vector<float> x = random_values(tokens * inputs, 1);
        const std::vector<float> bias = random_values(outputs, 4);
        const auto multiplied = [&](Arithmetic arithmetic, const auto& executor) {
            std::vector<std::vector<float>> y{std::vector<float>(at(tokens * outputs)),
                                              std::vector<float>(at(tokens * 5))};
            multiply({{first.get(), y[0].data(), bias.data()}, {second.get(), y[1].data()}}, x.data(), tokens, executor,
                     arithmetic);
            return y;
        };
        const auto exact = multiplied(Arithmetic::exact, freqkv::SerialExecutor{});
        const auto rounded = multiplied(Arithmetic::rounded, freqkv::SerialExecutor{});
        double square = 0;
        double difference = 0;
        for (std::size_t i = 0; i < exact[0].size(); ++i) {
            square += std::pow(static_cast<double>(exact[0][i]), 2);
            difference += std::pow(static_cast<double>(exact[0][i] - rounded[0][i]), 2);
        }
        EXPECT_LT(std::sqrt(difference / square), 0.01) << tokens << " tokens";
        EXPECT_EQ(exact[1], rounded[1]) << "floats are not rounded";
        if (GetParam() == WeightType::f16) {
            EXPECT_EQ(exact, rounded);
        } else if (!is_plain(GetParam()) && !detail::byte_kernels().empty()) {
            EXPECT_NE(exact, rounded);
        }
#if defined(_OPENMP)
        EXPECT_EQ(rounded, multiplied(Arithmetic::rounded, freqkv::OpenMPExecutor(2))) << "threads matter";
#endif
    }
}

std::string name_of(const testing::TestParamInfo<WeightType>& type) { return format_of(type.param).name; }

INSTANTIATE_TEST_SUITE_P(Types, ProductsOfType, testing::ValuesIn(test::all_types), name_of);

constexpr std::span quantised_types = std::span(test::all_types).subspan<3>();
static_assert(quantised_types.front() == WeightType::q4_0);
INSTANTIATE_TEST_SUITE_P(Types, ByteKernelsOfType, testing::ValuesIn(quantised_types), name_of);

TEST(ByteKernels, RoundToTheNearestOf255Steps) {
    for (const ByteKernels* const kernels : detail::byte_kernels()) {
        Problem problem(WeightType::q8_0, 1, 64 * 32, 1);
        const Bytes x(*kernels, problem);
        for (std::size_t i = 0; i < x.bytes.size(); i += 32) {
            const auto size = [](float a, float b) { return std::abs(a) < std::abs(b); };
            const std::span<const float> block(&problem.x[i], 32);
            const float largest = std::abs(*std::ranges::max_element(block, size));
            EXPECT_FLOAT_EQ(x.scales[i / 32], largest / 127);
            float sums[2] = {};
            for (std::size_t k = 0; k < 32; ++k) {
                const float value = x.scales[i / 32] * static_cast<float>(x.bytes[i + k]);
                EXPECT_NEAR(value, block[k], 0.5001F * x.scales[i / 32]);
                sums[k / 16] += value;
            }
            EXPECT_NEAR(x.half_sums[i / 16], sums[0], 1e-5 * static_cast<double>(largest));
            EXPECT_NEAR(x.half_sums[i / 16 + 1], sums[1], 1e-5 * static_cast<double>(largest));
            EXPECT_NEAR(x.sums[i / 32], sums[0] + sums[1], 1e-5 * static_cast<double>(largest));
        }
    }
}

TEST(ByteKernels, WhatIsNotFiniteIsNotHidden) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    for (const ByteKernels* const kernels : detail::byte_kernels()) {
        for (const float bad : {NAN, -NAN, infinity, -infinity}) {
            for (const std::size_t where : {0U, 17U, 31U}) {
                Problem problem(WeightType::q4_0, 1, 64, 1);
                problem.x[where] = bad;
                Bytes x(*kernels, problem);
                kernels->multiply_rows(problem.weight_rows(), x.of(0), problem.out.data());
                EXPECT_FALSE(std::isfinite(problem.out[0])) << kernels->name << ", " << bad << " at " << where;
            }
        }
    }
}

}  // namespace
}  // namespace llama
