// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include "freqkv/config.hpp"

namespace freqkv {

namespace detail {

// Eigen's matrices, maps and blocks, recognised by shape so that no Eigen header is needed here.
template <class M>
concept MatrixLike = requires(M& m) {
    { m.rows() } -> std::convertible_to<Index>;
    { m.cols() } -> std::convertible_to<Index>;
    { m.innerStride() } -> std::convertible_to<Index>;
    { m.outerStride() } -> std::convertible_to<Index>;
    { static_cast<bool>(std::remove_cvref_t<M>::IsRowMajor) } -> std::same_as<bool>;
    m.data();
};

// Eigen's rank-3 Tensor and TensorMap; Layout is 1 for row-major, as in Eigen::StorageOptions.
template <class M>
concept TensorLike = requires(M& m) {
    { m.dimension(0) } -> std::convertible_to<Index>;
    { static_cast<int>(std::remove_cvref_t<M>::Layout) } -> std::same_as<int>;
    m.data();
} && static_cast<int>(std::remove_cvref_t<M>::NumDimensions) == 3;

}  // namespace detail

/// Non-owning view of a matrix [rows, columns]: element (r, c) is data[r * row_stride + c * column_stride].
/// Strides are in elements and may have any value, negative included. Rows are tokens wherever the
/// library speaks of sequences. Trivially copyable; the memory may be on a device.
template <class T>
struct MatrixView {
    T* data = nullptr;
    Index rows = 0;
    Index columns = 0;
    Index row_stride = 0;
    Index column_stride = 1;

    MatrixView() = default;

    /// Dense, row-major.
    FREQKV_HOST_DEVICE constexpr MatrixView(T* data_, Index rows_, Index columns_)
        : data(data_), rows(rows_), columns(columns_), row_stride(columns_) {}

    FREQKV_HOST_DEVICE constexpr MatrixView(T* data_, Index rows_, Index columns_, Index row_stride_,
                                            Index column_stride_)
        : data(data_), rows(rows_), columns(columns_), row_stride(row_stride_), column_stride(column_stride_) {}

    /// A mutable view reads as a const one.
    template <class U>
        requires(std::same_as<const U, T> && !std::same_as<U, T>)
    FREQKV_HOST_DEVICE constexpr MatrixView(const MatrixView<U>& other)
        : MatrixView(other.data, other.rows, other.columns, other.row_stride, other.column_stride) {}

    /// Anything shaped like an Eigen matrix with direct access.
    template <class M>
        requires(detail::MatrixLike<M> && std::convertible_to<decltype(std::declval<M&>().data()), T*>)
    MatrixView(M&& m) : MatrixView(m.data(), m.rows(), m.cols(), m.outerStride(), m.innerStride()) {
        if constexpr (!std::remove_cvref_t<M>::IsRowMajor) {
            row_stride = m.innerStride();
            column_stride = m.outerStride();
        }
    }

    FREQKV_HOST_DEVICE constexpr T& operator()(Index row, Index column) const {
        return data[row * row_stride + column * column_stride];
    }

    FREQKV_HOST_DEVICE constexpr T* row(Index r) const { return data + r * row_stride; }

    /// Rows [first, first + count).
    FREQKV_HOST_DEVICE constexpr MatrixView middle_rows(Index first, Index count) const {
        return {data + first * row_stride, count, columns, row_stride, column_stride};
    }

    /// Columns [first, first + count).
    FREQKV_HOST_DEVICE constexpr MatrixView middle_columns(Index first, Index count) const {
        return {data + first * column_stride, rows, count, row_stride, column_stride};
    }
};

/// Non-owning view of the keys, values or queries of one layer, [heads, tokens, head_dim], with a
/// stride in elements for each axis; so [tokens, heads, head_dim] (token-major) is a matter of
/// strides. Trivially copyable; the memory may be on a device.
template <class T>
struct KVView {
    T* data = nullptr;
    Index heads = 0;
    Index tokens = 0;
    Index head_dim = 0;
    Index head_stride = 0;
    Index token_stride = 0;
    Index dim_stride = 1;

    KVView() = default;

    /// Dense [heads, tokens, head_dim].
    FREQKV_HOST_DEVICE constexpr KVView(T* data_, Index heads_, Index tokens_, Index head_dim_)
        : KVView(data_, heads_, tokens_, head_dim_, tokens_ * head_dim_, head_dim_, 1) {}

    FREQKV_HOST_DEVICE constexpr KVView(T* data_, Index heads_, Index tokens_, Index head_dim_, Index head_stride_,
                                        Index token_stride_, Index dim_stride_)
        : data(data_),
          heads(heads_),
          tokens(tokens_),
          head_dim(head_dim_),
          head_stride(head_stride_),
          token_stride(token_stride_),
          dim_stride(dim_stride_) {}

    /// Dense [tokens, heads, head_dim], as projections write it.
    FREQKV_HOST_DEVICE static constexpr KVView token_major(T* data, Index heads, Index tokens, Index head_dim) {
        return {data, heads, tokens, head_dim, head_dim, heads * head_dim, 1};
    }

    /// A mutable view reads as a const one.
    template <class U>
        requires(std::same_as<const U, T> && !std::same_as<U, T>)
    FREQKV_HOST_DEVICE constexpr KVView(const KVView<U>& other)
        : KVView(other.data, other.heads, other.tokens, other.head_dim, other.head_stride, other.token_stride,
                 other.dim_stride) {}

    /// Anything shaped like a rank-3 Eigen Tensor or TensorMap with axes [heads, tokens, head_dim].
    template <class M>
        requires(detail::TensorLike<M> && std::convertible_to<decltype(std::declval<M&>().data()), T*>)
    KVView(M&& m) : KVView(m.data(), m.dimension(0), m.dimension(1), m.dimension(2)) {
        if constexpr (static_cast<int>(std::remove_cvref_t<M>::Layout) != 1) {
            head_stride = 1;
            token_stride = heads;
            dim_stride = heads * tokens;
        }
    }

    /// One head as a matrix [tokens, head_dim].
    FREQKV_HOST_DEVICE constexpr MatrixView<T> head(Index h) const {
        return {data + h * head_stride, tokens, head_dim, token_stride, dim_stride};
    }

    /// Tokens [first, first + count) of all heads.
    FREQKV_HOST_DEVICE constexpr KVView middle_tokens(Index first, Index count) const {
        return {data + first * token_stride, heads, count, head_dim, head_stride, token_stride, dim_stride};
    }
};

}  // namespace freqkv
