// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

#include "freqkv/config.hpp"

namespace freqkv {

/// How many rows there are, and of how many elements.
struct RowsShape {
    Index heads = 0;
    Index tokens = 0;
    Index head_dim = 0;
};

/// The keys or the values of one layer in another engine's memory, where elements cannot be had one by one, for some of
/// them share a scale: a row, [head_dim], is read and written as a whole, as float. Non-owning. BlockView, ScaledView
/// and HadamardView are such views; a type of your own is one if it has
///
///   shape()                   what it is a view of
///   check(name)               throws Error, naming what it is of ("keys"), unless rows can be read and written
///   load(head, token, row)    reads a row to row [head_dim]
///   store(head, token, row)   writes row [head_dim], which it may change
///   move(head, from, to)      makes row `to` what row `from` is, to the last bit
///
/// of which the last three do not throw. Different heads are read and written by different threads.
template <class V>
concept ForeignRows =
    std::copyable<V> && requires(const V& view, const char* name, Index head, Index token, float* row) {
        { view.shape() } -> std::convertible_to<RowsShape>;
        view.check(name);
        { view.load(head, token, row) } noexcept;
        { view.store(head, token, row) } noexcept;
        { view.move(head, token, token) } noexcept;
    };

}  // namespace freqkv
