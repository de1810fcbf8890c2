// SPDX-License-Identifier: MIT
#include "llama/model/matrix_product.hpp"

#include <cstddef>

#include <Eigen/Core>

#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/workspace.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/with_weight_type.hpp"

#if defined(EIGEN_HAS_OPENMP)
#error "define EIGEN_DONT_PARALLELIZE: products inside a task must stay on its thread"
#endif

namespace llama::detail {

namespace {

using Lane = freqkv::detail::Lanes<float>;
using freqkv::detail::load_lanes;
using freqkv::detail::load_part;
using freqkv::detail::unrolled;

constexpr Index width = freqkv::detail::lane_count<float>;

float sum(Lane x) {
    float total = 0;
    for (Index i = 0; i < width; ++i) total += x[i];
    return total;
}

// Weights that are one number each. Several sums at a time, for an addition waits for the one before it.
template <class T>
float dot(const T* w, const float* x, Index n) {
    constexpr Index sums = 4;
    Lane total[sums] = {};
    Index i = 0;
    for (; i + sums * width <= n; i += sums * width) {
        unrolled<sums>([&](auto s) FREQKV_INLINE_LAMBDA {
            total[s] += load_lanes<float>(w + i + s * width) * load_lanes<float>(x + i + s * width);
        });
    }
    for (; i < n; i += width) {
        const Index count = std::min(width, n - i);
        total[0] += load_part<float>(w + i, count) * load_part<float>(x + i, count);
    }
    return sum((total[0] + total[1]) + (total[2] + total[3]));
}

// Weights in blocks: each is unpacked where the next instructions find it.
template <WeightType type>
float dot_blocks(const std::byte* w, const float* x, Index n) {
    constexpr WeightFormat format = format_of(type);
    Lane total[2] = {};
    for (Index i = 0; i < n; i += format.block, w += format.bytes) {
        alignas(64) float block[format.block];
        Block<type>::unpack(w, block);
        static_assert(format.block % (2 * width) == 0);
        for (Index j = 0; j < format.block; j += 2 * width) {
            total[0] += load_lanes<float>(block + j) * load_lanes<float>(x + i + j);
            total[1] += load_lanes<float>(block + j + width) * load_lanes<float>(x + i + j + width);
        }
    }
    return sum(total[0] + total[1]);
}

// f(<the row's product with x, by the type of the weights>).
template <class F>
void with_dot(const Weights& w, const float* x, F&& f) {
    with_weight_type(w.type, [&](auto type) {
        f([&](Index r) {
            if constexpr (is_plain(type)) {
                return dot(reinterpret_cast<const Number<type>*>(w.row(r)), x, w.columns);
            } else {
                return dot_blocks<type>(w.row(r), x, w.columns);
            }
        });
    });
}

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Tokens up to which they are multiplied one by one: unpacking the weights again takes less time than arranging them
// for many.
constexpr Index few_tokens = 8;

// The fastest kernels that this processor runs, or null.
const ByteKernels* fastest_bytes() {
    static const auto* const fastest = byte_kernels().empty() ? nullptr : byte_kernels().front();
    return fastest;
}
const BFloat16Kernels* fastest_bfloat16() {
    static const auto* const fastest = bfloat16_kernels().empty() ? nullptr : bfloat16_kernels().front();
    return fastest;
}

// Memory for rounded activations of the calling thread.
template <class T>
T* kept_memory(Index size) {
    thread_local freqkv::AlignedBuffer<T> memory;
    if (size > memory.size()) memory = freqkv::AlignedBuffer<T>(size);
    return memory.data();
}

WeightRows rows_of(const Weights& w, Index first, Index rows) {
    return {w.row(first), w.type, w.row_bytes(), rows, w.columns};
}

template <class T>
T* scratch(Index size) {
    thread_local const freqkv::AlignedBuffer<T> memory(size);
    return memory.data();
}

}  // namespace

Input::Input(std::initializer_list<Product> products, const float* x, Index tokens, Arithmetic arithmetic)
    : x_(x), tokens_(tokens), inputs_(products.begin()->weights.columns), arithmetic_(arithmetic) {
    bool needs_bytes = false;
    bool needs_bfloat16 = false;
    for (const Product& product : products) {
        const Form form = form_for(product.weights.type);
        needs_bytes |= form == Form::bytes;
        needs_bfloat16 |= form == Form::bfloat16;
    }
    const auto size = [&](Index columns) { return freqkv::checked_product("rounded activations", tokens, columns); };
    if (needs_bytes) {
        auto* const bytes = kept_memory<std::int8_t>(size(inputs_));
        auto* const numbers = kept_memory<float>(size(inputs_ / 8));
        bytes_ = {bytes, numbers, numbers + size(inputs_ / 32), numbers + size(inputs_ / 16)};
    }
    if (needs_bfloat16) {
        const Index columns = padded(inputs_, bfloat16_columns);
        bfloat16_ = kept_memory<std::uint16_t>(
            freqkv::checked_product("rounded activations", padded(tokens, bfloat16_tokens), columns));
    }
}

Input::Form Input::form_for(WeightType type) const {
    if (arithmetic_ == Arithmetic::exact) return Form::floats;
    const bool many = tokens_ > few_tokens && fastest_bfloat16() != nullptr;
    if (type == WeightType::bf16) return many ? Form::bfloat16 : Form::floats;
    if (is_plain(type)) return Form::floats;
    if (many && fastest_bfloat16()->quantised) return Form::bfloat16;
    return fastest_bytes() != nullptr ? Form::bytes : Form::floats;
}

ByteActivations Input::bytes_of(Index token) const {
    const Index at = token * inputs_;
    return {bytes_.bytes + at, bytes_.scales + at / 32, bytes_.sums + at / 32, bytes_.half_sums + at / 16};
}

std::uint16_t* Input::bfloat16_of(Index token) const { return bfloat16_ + token * padded(inputs_, bfloat16_columns); }

void Input::round(Index token) const {
    const float* const from = x_ + token * inputs_;
    if (bytes_.bytes != nullptr) fastest_bytes()->round(from, inputs_, bytes_of(token));
    if (bfloat16_ != nullptr) {
        fastest_bfloat16()->round(from, inputs_, bfloat16_of(token));
    }
}

void Input::multiply_rows(const Product& product, Index first, Index rows) const {
    float* const out = product.out + first;
    if (form_for(product.weights.type) == Form::bytes) {
        fastest_bytes()->multiply_rows(rows_of(product.weights, first, rows), bytes_of(0), out);
    } else {
        with_dot(product.weights, x_, [&](auto&& dot_row) {
            for (Index r = 0; r < rows; ++r) out[r] = dot_row(first + r);
        });
    }
    for (Index r = 0; product.bias != nullptr && r < rows; ++r) out[r] += product.bias[first + r];
}

void Input::multiply_tile(const Product& product, Index first_token, Index tokens, Index first_row, Index rows) const {
    const Index stride = product.weights.rows;
    float* const out = product.out + first_token * stride + first_row;
    const WeightRows weights = rows_of(product.weights, first_row, rows);
    switch (form_for(product.weights.type)) {
        case Form::floats:
            multiply_floats(product, first_token, tokens, first_row, rows);
            break;
        case Form::bfloat16:
            fastest_bfloat16()->multiply_tile(weights, bfloat16_of(first_token), tokens, out, stride,
                                              scratch<std::byte>(tile_scratch));
            break;
        case Form::bytes:
            if (tokens_ > few_tokens) {
                fastest_bytes()->multiply_tile(weights, bytes_of(first_token), tokens, out, stride,
                                               scratch<std::byte>(tile_scratch));
                break;
            }
            for (Index t = 0; t < tokens; ++t) {
                fastest_bytes()->multiply_rows(weights, bytes_of(first_token + t), out + t * stride);
            }
            break;
    }
    if (product.bias == nullptr) return;
    for (Index t = 0; t < tokens; ++t) {
        for (Index r = 0; r < rows; ++r) out[t * stride + r] += product.bias[first_row + r];
    }
}

void Input::multiply_floats(const Product& product, Index first_token, Index tokens, Index first_row,
                            Index rows) const {
    using Stride = Eigen::OuterStride<>;
    using Matrix = Eigen::Map<const RowMajor, 0, Stride>;
    const Weights w = product.weights.middle_rows(first_row, rows);
    Eigen::Map<RowMajor, 0, Stride> out(product.out + first_token * product.weights.rows + first_row, tokens, rows,
                                        Stride(product.weights.rows));
    const auto input = [&](Index first_column, Index columns) {
        return Matrix(x_ + first_token * w.columns + first_column, tokens, columns, Stride(w.columns));
    };
    if (w.type == WeightType::f32) {
        const auto* const data = reinterpret_cast<const float*>(w.data);
        out.noalias() = input(0, w.columns) * Matrix(data, rows, w.columns, Stride(w.columns)).transpose();
        return;
    }
    constexpr Index at_once = 1024;  // a multiple of every block
    float* const converted = scratch<float>(exact_tile.rows * at_once);
    out.setZero();
    for (Index column = 0; column < w.columns; column += at_once) {
        const Index columns = std::min(at_once, w.columns - column);
        for (Index r = 0; r < rows; ++r) dequantize(w, r, column, columns, converted + r * columns);
        const Matrix block(converted, rows, columns, Stride(columns));
        out.noalias() += input(column, columns) * block.transpose();
    }
}

}  // namespace llama::detail
