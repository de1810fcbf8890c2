// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// Products of small matrices that fit the caches, by the register: one element of the left matrix against
// registers of a row of the right one. The right matrix and the result are dense along their rows.
namespace freqkv::detail {

/// Element (j, i) is data[j * row + i * column].
template <class C>
struct LeftMatrix {
    const C* data;
    Index row;
    Index column;
};

/// Rows of whole registers; `stride` elements from one to the next.
template <class C>
struct LaneRows {
    C* data;
    Index stride;
};

// J rows and W registers of columns of the result, which are all held in registers.
template <bool Add, Index J, Index W, class C>
[[gnu::flatten]] void lane_product_tile(LeftMatrix<C> a, Index depth, LaneRows<const C> b, LaneRows<C> c) {
    Lanes<C> sums[J * W];
    unrolled<J>([&](auto j) {
        unrolled<W>([&](auto w) {
            sums[j * W + w] = Add ? load_lanes<C>(c.data + j * c.stride + w * lane_count<C>) : Lanes<C>{};
        });
    });
    for (Index i = 0; i < depth; ++i) {
        Lanes<C> x[W];
        unrolled<W>([&](auto w) { x[w] = load_lanes<C>(b.data + i * b.stride + w * lane_count<C>); });
        unrolled<J>([&](auto j) {
            const C y = a.data[j * a.row + i * a.column];
            unrolled<W>([&](auto w) { sums[j * W + w] += x[w] * y; });
        });
    }
    unrolled<J>([&](auto j) {
        unrolled<W>([&](auto w) { store_lanes<C>(c.data + j * c.stride + w * lane_count<C>, sums[j * W + w]); });
    });
}

// All rows, J at a time, then fewer.
template <bool Add, Index W, Index J, Index... Fewer, class C>
void lane_product_columns(LeftMatrix<C> a, Index rows, Index depth, LaneRows<const C> b, LaneRows<C> c, Index j = 0) {
    for (; j + J <= rows; j += J) {
        lane_product_tile<Add, J, W>({a.data + j * a.row, a.row, a.column}, depth, b,
                                     LaneRows<C>{c.data + j * c.stride, c.stride});
    }
    if constexpr (sizeof...(Fewer) > 0) lane_product_columns<Add, W, Fewer...>(a, rows, depth, b, c, j);
}

// Blocks of W registers of columns from w on, then of half as many.
template <bool Add, Index W, class C>
void lane_product_blocks(LeftMatrix<C> a, Index rows, Index depth, LaneRows<const C> b, LaneRows<C> c, Index width,
                         Index w = 0) {
    // Three quarters of the registers are sums.
    constexpr Index most = register_count * 3 / 4 / W;
    constexpr Index rows_at_once = most < 12 ? most : 12;
    for (; w + W * lane_count<C> <= width; w += W * lane_count<C>) {
        const LaneRows<const C> b_columns{b.data + w, b.stride};
        const LaneRows<C> c_columns{c.data + w, c.stride};
        lane_product_columns<Add, W, rows_at_once, 4, 2, 1>(a, rows, depth, b_columns, c_columns);
    }
    if constexpr (W > 1) lane_product_blocks<Add, W / 2>(a, rows, depth, b, c, width, w);
}

/// c [rows, width] = a [rows, depth] b [depth, width], or added to it if Add. `width` is a multiple of
/// lane_count<C>. Each element is summed in the order of depth.
template <bool Add, class C>
void lane_product(LeftMatrix<C> a, Index rows, Index depth, LaneRows<const C> b, LaneRows<C> c, Index width) {
    lane_product_blocks<Add, register_count / 8>(a, rows, depth, b, c, width);
}

}  // namespace freqkv::detail
