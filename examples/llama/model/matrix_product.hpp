// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "freqkv/executor.hpp"
#include "llama/model/arithmetic.hpp"
#include "llama/model/products/kernels.hpp"
#include "llama/model/weights.hpp"

namespace llama {

/// One of several products of the same input: out [tokens, weights.rows] = x * weights^T + bias.
struct Product {
    Weights weights;
    float* out;
    const float* bias = nullptr;  ///< [weights.rows]; null: none
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

/// f(i, worker) for i in [0, count), each of which is some `work` exponentials, on the executor's threads if there are
/// enough of them.
template <freqkv::Executor E, class F>
void share_exponentials(const E& executor, Index count, Index work, F&& f) {
    SerialIf<E>{executor, count * work < Index{1} << 16}.for_each(count, f);
}

namespace detail {

// Multiply-adds below which waking other threads costs more than it saves: of a product with one token,
// which waits for memory, and of one with many, which does not.
inline constexpr Index serial_work_of_one = Index{1} << 17;
inline constexpr Index serial_work_of_many = Index{1} << 20;
// Activations that one thread rounds.
inline constexpr Index serial_rounding = Index{1} << 16;
// Multiply-adds of one task of a product with one token: some hundred kilobytes of weights.
inline constexpr Index task_work = Index{1} << 16;
// Weight rows and tokens of one task of a product with many tokens. Where these are rounded, a task takes less time,
// and more of it to arrange the weights.
struct Tile {
    Index rows;
    Index tokens;
};
inline constexpr Tile exact_tile{128, 256};
inline constexpr Tile rounded_tile{64, 512};

// What products multiply: activations [tokens, inputs], and as what the types of the weights need besides, in memory of
// the calling thread that is kept and valid until its next Input.
class Input {
public:
    Input(std::initializer_list<Product> products, const float* x, Index tokens, Arithmetic arithmetic);

    // round() is to be called for each token before a product is begun.
    bool needs_rounding() const { return bytes_.bytes != nullptr || bfloat16_ != nullptr; }
    void round(Index token) const;

    // Rows [first, first + rows) of the product with one token. Limited by the reading of the weights, which are
    // converted in registers.
    void multiply_rows(const Product& product, Index first, Index rows) const;

    // A tile of the product with many tokens. The weights are converted a block of columns at a time, for all
    // tokens of the tile. Keeps up to half a megabyte of scratch for each thread.
    void multiply_tile(const Product& product, Index first_token, Index tokens, Index first_row, Index rows) const;

private:
    enum class Form : std::uint8_t { floats, bytes, bfloat16 };

    Form form_for(WeightType type) const;
    ByteActivations bytes_of(Index token) const;
    std::uint16_t* bfloat16_of(Index token) const;
    void multiply_floats(const Product& product, Index first_token, Index tokens, Index first_row, Index rows) const;

    const float* x_;
    Index tokens_;
    Index inputs_;
    Arithmetic arithmetic_;
    ByteActivations bytes_{};            // of all tokens, or null
    std::uint16_t* bfloat16_ = nullptr;  // of all tokens, or null
};

inline Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace detail

/// All products of x [tokens, inputs], dense; their weights have `inputs` columns. They are cut into tasks by
/// their sizes alone, so that the result does not depend on the number of threads. Allocates nothing, unless rounded
/// activations take more memory than ever before.
template <freqkv::Executor E>
void multiply(std::initializer_list<Product> products, const float* x, Index tokens, const E& executor,
              Arithmetic arithmetic = Arithmetic::exact) {
    using namespace detail;
    const Index inputs = products.begin()->weights.columns;
    const Tile tile = arithmetic == Arithmetic::exact ? exact_tile : rounded_tile;
    const Index rows_at_once = tokens > 1 ? tile.rows : std::max<Index>(8, task_work / inputs / 8 * 8);
    const Index token_tiles = divide_up(tokens, tile.tokens);
    const auto tasks_of = [&](const Product& p) { return divide_up(p.weights.rows, rows_at_once) * token_tiles; };
    Index outputs = 0;
    Index tasks = 0;
    for (const Product& product : products) {
        outputs += product.weights.rows;
        tasks += tasks_of(product);
    }
    const Input input(products, x, tokens, arithmetic);
    if (input.needs_rounding()) {
        const auto round = [&](Index token, Index /*worker*/) { input.round(token); };
        SerialIf<E>{executor, tokens * inputs < serial_rounding}.for_each(tokens, round);
    }
    const auto run = [&](Index task, Index /*worker*/) {
        const Product* product = products.begin();
        for (; task >= tasks_of(*product); ++product) task -= tasks_of(*product);
        const Index row = task / token_tiles * rows_at_once;
        const Index rows = std::min(rows_at_once, product->weights.rows - row);
        if (tokens == 1) return input.multiply_rows(*product, row, rows);
        const Index token = task % token_tiles * tile.tokens;
        input.multiply_tile(*product, token, std::min(tile.tokens, tokens - token), row, rows);
    };
    const bool serial = tokens * outputs * inputs < (tokens == 1 ? serial_work_of_one : serial_work_of_many);
    SerialIf<E>{executor, serial}.for_each(tasks, run);
}

}  // namespace llama
