// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/check_rows.hpp"
#include "freqkv/detail/cache/move_entries.hpp"
#include "freqkv/foreign_rows.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// A KVView as ForeignRows, for keys and values of which only the others are such rows.
template <class T>
struct DenseRows {
    KVView<T> view;

    RowsShape shape() const { return {view.heads, view.tokens, view.head_dim}; }
    void check(const char* name) const { require_of(view.data != nullptr, "data", name, 0, "must not be null"); }
    void load(Index head, Index token, float* to) const noexcept {
        const MatrixView<T> rows = view.head(head);
        for (Index d = 0; d < rows.columns; ++d) to[d] = StoredElement<T>::to_arithmetic(rows(token, d));
    }
    void store(Index head, Index token, const float* from) const noexcept {
        const MatrixView<T> rows = view.head(head);
        for (Index d = 0; d < rows.columns; ++d) rows(token, d) = StoredElement<T>::from_arithmetic(from[d]);
    }
    void move(Index head, Index from, Index to) const noexcept { copy_row(view.head(head), from, to); }
};

template <ForeignRows V>
V as_rows(const V& rows) {
    return rows;
}
template <class T>
    requires(std::is_same_v<Arithmetic<T>, float> && !std::is_const_v<T>)
DenseRows<T> as_rows(const KVView<T>& view) {
    return {view};
}

// Keys and values that are read and written by rows: both are of a kind that can be, and one of a kind that has to be.
template <class K, class V>
concept ByRows = (ForeignRows<K> || ForeignRows<V>) && requires(const K& keys, const V& values) {
    as_rows(keys);
    as_rows(values);
};

}  // namespace freqkv::detail::inline FREQKV_ISA
