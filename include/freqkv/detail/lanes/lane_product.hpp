// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// Products of small matrices that fit the caches, by the register: one element of the left matrix against
// registers of a row of the right one. The right matrix and the result are dense along their rows.
namespace freqkv::detail::inline FREQKV_ISA {

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

// What an element of the result is before the products are added to it: 0, itself, or itself times a factor of its
// column.
struct FromZero {
    template <class C>
    FREQKV_INLINE Lanes<C> operator()(const C* /*at*/, Index /*column*/) const {
        return Lanes<C>{};
    }
};
struct FromResult {
    template <class C>
    FREQKV_INLINE Lanes<C> operator()(const C* at, Index /*column*/) const {
        return load_lanes<C>(at);
    }
};
template <class C>
struct FromScaledResult {
    const C* factors;  // [width]
    FREQKV_INLINE Lanes<C> operator()(const C* at, Index column) const {
        return load_lanes<C>(at) * load_lanes<C>(factors + column);
    }
};

// J rows and W registers of columns of the result, which are all held in registers. `column` is the first.
template <Index J, Index W, class C, class First>
[[gnu::flatten, gnu::noinline]] void lane_product_tile(LeftMatrix<C> a, Index depth, LaneRows<const C> b, LaneRows<C> c,
                                                       Index column, First first) {
    constexpr Index lanes = lane_count<C>;
    C* const out = c.data + column;
    Lanes<C> sums[J * W];
    unrolled<J * W>([&](auto i) {
        constexpr Index w = i % W;
        sums[i] = first(out + i / W * c.stride + w * lanes, column + w * lanes);
    });
    for (Index i = 0; i < depth; ++i) {
        Lanes<C> x[W];
        unrolled<W>([&](auto w) { x[w] = load_lanes<C>(b.data + i * b.stride + column + w * lanes); });
        unrolled<J>([&](auto j) {
            const C y = a.data[j * a.row + i * a.column];
            unrolled<W>([&](auto w) { sums[j * W + w] += x[w] * y; });
        });
    }
    unrolled<J * W>([&](auto i) { store_lanes<C>(out + i / W * c.stride + i % W * lanes, sums[i]); });
}

// All rows, J at a time, then fewer; W registers of columns from `column` on.
template <Index W, Index J, Index... Fewer, class C, class First>
void lane_product_rows(LeftMatrix<C> a, Index rows, Index depth, LaneRows<const C> b, LaneRows<C> c, Index column,
                       First first, Index j = 0) {
    for (; j + J <= rows; j += J) {
        lane_product_tile<J, W>(LeftMatrix<C>{a.data + j * a.row, a.row, a.column}, depth, b,
                                LaneRows<C>{c.data + j * c.stride, c.stride}, column, first);
    }
    if constexpr (sizeof...(Fewer) > 0) lane_product_rows<W, Fewer...>(a, rows, depth, b, c, column, first, j);
}

/// c [rows, width] = a [rows, depth] b [depth, width] added to what `first` says. `width` is a multiple of
/// lane_count<C>. Each element is summed in the order of depth. Blocks of W registers of columns, then of half as many.
template <Index W = register_count / 8, class C, class First>
void lane_product(LeftMatrix<C> a, Index rows, Index depth, LaneRows<const C> b, LaneRows<C> c, Index width,
                  First first, Index column = 0) {
    // Three quarters of the registers are sums.
    constexpr Index most = register_count * 3 / 4 / W;
    constexpr Index rows_at_once = most < 12 ? most : 12;
    for (; column + W * lane_count<C> <= width; column += W * lane_count<C>) {
        lane_product_rows<W, rows_at_once, 4, 2, 1>(a, rows, depth, b, c, column, first);
    }
    if constexpr (W > 1) lane_product<W / 2>(a, rows, depth, b, c, width, first, column);
}

}  // namespace freqkv::detail::inline FREQKV_ISA
