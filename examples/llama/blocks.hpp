// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include <Eigen/Core>

#include "freqkv/executor.hpp"
#include "llama/checkpoint.hpp"

#if defined(EIGEN_HAS_OPENMP)
#error "define EIGEN_DONT_PARALLELIZE: products inside a task must stay on its thread"
#endif

// The blocks a Llama is made of, but for attention. Activations are dense row-major, a row per token.
namespace llama {

/// y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + 1e-5); vectors of n elements, y may be x.
inline void rms_norm(const float* x, const float* weight, float* y, Index n) {
    using Vector = Eigen::Map<Eigen::ArrayXf>;
    using ConstVector = Eigen::Map<const Eigen::ArrayXf>;
    const ConstVector in(x, n);
    const float scale = 1 / std::sqrt(in.square().sum() / static_cast<float>(n) + 1e-5f);
    Vector(y, n) = in * scale * ConstVector(weight, n);
}

/// gate = silu(gate) * up, silu(x) = x / (1 + exp(-x)); vectors of n elements.
inline void swiglu(float* gate, const float* up, Index n) {
    Eigen::Map<Eigen::ArrayXf> g(gate, n);
    g = g / (1 + (-g).exp()) * Eigen::Map<const Eigen::ArrayXf>(up, n);
}

/// One of several products of the same input: out [tokens, weights.rows] = x * weights^T.
struct Product {
    Weights weights;
    float* out;
};

/// An executor that stays on the calling thread where the work is too small to be shared.
template <freqkv::Executor E>
struct SerialIf {
    const E& executor;
    bool serial;

    Index concurrency() const { return executor.concurrency(); }

    template <class F>
    void for_each(Index count, F&& f) const {
        serial ? freqkv::SerialExecutor{}.for_each(count, f) : executor.for_each(count, f);
    }
};

namespace detail {

// Multiply-adds below which waking other threads costs more than it saves: of a product with one token,
// which waits for memory, and of one with many, which does not.
inline constexpr Index serial_work_of_one = Index{1} << 17;
inline constexpr Index serial_work_of_many = Index{1} << 20;
// Multiply-adds of one task of a product with one token: some hundred kilobytes of weights.
inline constexpr Index task_work = Index{1} << 16;
// Weight rows and tokens of one task of a product with many tokens.
inline constexpr Index task_rows = 128;
inline constexpr Index task_tokens = 256;

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Columns from which on a product with one token goes row by row. Eigen's product takes eight rows at a time,
// which shares the loads of x; from memory, the plain order of rows is up to 1.7 times as fast.
inline constexpr Index long_rows = 256;

// Rows [first, first + rows) of the product with one token: limited by the reading of the weights.
inline void multiply_rows(const Product& product, const float* x, Index first, Index rows) {
    const Weights w = product.weights.middle_rows(first, rows);
    const Eigen::Map<const Eigen::VectorXf> input(x, w.columns);
    float* const out = product.out + first;
    if (w.columns < long_rows) {
        Eigen::Map<Eigen::VectorXf>(out, rows).noalias() = Eigen::Map<const RowMajor>(w.data, rows, w.columns) * input;
    } else {
        for (Index r = 0; r < rows; ++r) out[r] = Eigen::Map<const Eigen::VectorXf>(w.row(r), w.columns).dot(input);
    }
}

// A tile of the product with many tokens.
inline void multiply_tile(const Product& product, const float* x, Index first_token, Index tokens, Index first_row,
                          Index rows) {
    const Weights w = product.weights.middle_rows(first_row, rows);
    const Index stride = product.weights.rows;
    Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> out(product.out + first_token * stride + first_row, tokens, rows,
                                                      Eigen::OuterStride<>(stride));
    out.noalias() = Eigen::Map<const RowMajor>(x + first_token * w.columns, tokens, w.columns) *
                    Eigen::Map<const RowMajor>(w.data, rows, w.columns).transpose();
}

inline Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace detail

/// All products of x [tokens, inputs]; their weights have `inputs` columns. They are cut into tasks by
/// their sizes alone, so that the result does not depend on the number of threads. With one token
/// nothing is allocated.
template <freqkv::Executor E>
void multiply(std::initializer_list<Product> products, const float* x, Index tokens, const E& executor) {
    using namespace detail;
    const Index inputs = products.begin()->weights.columns;
    const Index rows_at_once = tokens > 1 ? task_rows : std::max<Index>(8, task_work / inputs / 8 * 8);
    const Index token_tiles = divide_up(tokens, task_tokens);
    const auto tasks_of = [&](const Product& p) { return divide_up(p.weights.rows, rows_at_once) * token_tiles; };
    Index outputs = 0;
    Index tasks = 0;
    for (const Product& product : products) {
        outputs += product.weights.rows;
        tasks += tasks_of(product);
    }
    const auto run = [&](Index task, Index /*worker*/) {
        const Product* product = products.begin();
        for (; task >= tasks_of(*product); ++product) task -= tasks_of(*product);
        const Index row = task / token_tiles * rows_at_once;
        const Index rows = std::min(rows_at_once, product->weights.rows - row);
        if (tokens == 1) return multiply_rows(*product, x, row, rows);
        const Index token = task % token_tiles * task_tokens;
        multiply_tile(*product, x, token, std::min(task_tokens, tokens - token), row, rows);
    };
    const bool serial = tokens * outputs * inputs < (tokens == 1 ? serial_work_of_one : serial_work_of_many);
    SerialIf<E>{executor, serial}.for_each(tasks, run);
}

}  // namespace llama
