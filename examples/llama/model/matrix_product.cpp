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

}  // namespace

void multiply_rows(const Product& product, const float* x, Index first, Index rows) {
    with_dot(product.weights, x, [&](auto&& dot_row) {
        for (Index r = first; r < first + rows; ++r) {
            product.out[r] = dot_row(r) + (product.bias == nullptr ? 0 : product.bias[r]);
        }
    });
}

void multiply_tile(const Product& product, const float* x, Index first_token, Index tokens, Index first_row,
                   Index rows) {
    using Stride = Eigen::OuterStride<>;
    using Matrix = Eigen::Map<const RowMajor, 0, Stride>;
    const Weights w = product.weights.middle_rows(first_row, rows);
    Eigen::Map<RowMajor, 0, Stride> out(product.out + first_token * product.weights.rows + first_row, tokens, rows,
                                        Stride(product.weights.rows));
    const auto input = [&](Index first_column, Index columns) {
        return Matrix(x + first_token * w.columns + first_column, tokens, columns, Stride(w.columns));
    };
    if (w.type == WeightType::f32) {
        const auto* const data = reinterpret_cast<const float*>(w.data);
        out.noalias() = input(0, w.columns) * Matrix(data, rows, w.columns, Stride(w.columns)).transpose();
    } else {
        constexpr Index columns_at_once = 1024;  // a multiple of every block
        thread_local const freqkv::AlignedBuffer<float> converted(task_rows * columns_at_once);
        out.setZero();
        for (Index column = 0; column < w.columns; column += columns_at_once) {
            const Index columns = std::min(columns_at_once, w.columns - column);
            for (Index r = 0; r < rows; ++r) dequantize(w, r, column, columns, converted.data() + r * columns);
            const Matrix block(converted.data(), rows, columns, Stride(columns));
            out.noalias() += input(column, columns) * block.transpose();
        }
    }
    if (product.bias != nullptr) {
        out.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(product.bias + first_row, rows);
    }
}

}  // namespace llama::detail
