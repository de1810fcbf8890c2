// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstring>

#include "freqkv/config.hpp"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/detail/lanes/convert.hpp"
#include "freqkv/detail/lanes/hadamard.hpp"
#include "freqkv/detail/lanes/packed_rows.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// The keys or the values of a list.
template <class T>
class ListRows {
public:
    ListRows(Index capacity, Index columns, const ExactParts&)
        : columns_(columns), rows_(checked_product("rows of a list", capacity, columns)) {}

    MatrixView<T> view(const ListCounts& counts) const { return {rows_.data(), counts.size, columns_}; }
    T* row(Index i) const { return rows_.data() + i * columns_; }
    Index bytes() const { return rows_.bytes(); }

    void copy_from(const ListRows& other, const ListCounts& counts) {
        std::copy_n(other.rows_.data(), counts.size * columns_, rows_.data());
    }

    // f(data, number of elements) of what is in use.
    template <class F>
    void for_each_part(const ListCounts& counts, const F& f) const {
        f(rows_.data(), counts.size * columns_);
    }

private:
    Index columns_;
    AlignedBuffer<T> rows_;  // [capacity, columns]
};

// Rows are transformed; those that are not packed are in 16 bits.
template <int Bits>
class ListRows<Packed<Bits>> {
    using T = Packed<Bits>;

public:
    ListRows(Index capacity, Index columns, const ExactParts& exact)
        : columns_(columns),
          first_(checked_product("rows of a list", std::min(capacity, exact.first), columns)),
          packed_(checked_product("rows of a list", exact.packed_of(capacity), row_length<T>(columns))),
          latest_(checked_product("rows of a list", exact.most_latest(capacity), columns)) {}

    PackedView<T> view(const ListCounts& counts) const {
        const Index first = std::min(counts.size, first_.size() / columns_);
        return {{first_.data(), first, columns_},
                {packed_.data(), counts.packed, columns_, row_length<T>(columns_), 1},
                {latest_.data(), counts.size - first - counts.packed, columns_}};
    }
    Index bytes() const { return first_.bytes() + packed_.bytes() + latest_.bytes(); }

    void copy_from(const ListRows& other, const ListCounts& counts) {
        const PackedView<T> from = other.view(counts);
        std::copy_n(from.first.data, from.first.rows * columns_, first_.data());
        std::copy_n(from.packed.data, from.packed.rows * from.packed.row_stride, packed_.data());
        std::copy_n(from.latest.data, from.latest.rows * columns_, latest_.data());
    }

    template <class F>
    void for_each_part(const ListCounts& counts, const F& f) const {
        const PackedView<T> rows = view(counts);
        f(rows.first.data, rows.first.rows * columns_);
        f(rows.packed.data, rows.packed.rows * rows.packed.row_stride);
        f(rows.latest.data, rows.latest.rows * columns_);
    }

    // Entry i of a list with these counts, of which it is one of the exact ones; `row` is changed.
    void write_exact(const ListCounts& counts, Index i, float* row) {
        hadamard(row, columns_);
        const Index first = first_.size() / columns_;
        convert_row(row, columns_,
                    i < first ? first_.data() + i * columns_ : latest_.data() + (i - first - counts.packed) * columns_);
    }

    // The oldest of the latest entries, a block of them, are packed; `row` is scratch.
    void pack_block(const ListCounts& counts, float* row) {
        const PackedView<T> rows = view(counts);
        for (Index i = 0; i < ExactParts::block; ++i) {
            convert_row(rows.latest.row(i), columns_, row);
            pack_transformed(row, columns_, rows.packed.row(counts.packed + i));
        }
        const Index rest = rows.latest.rows - ExactParts::block;
        std::memmove(latest_.data(), rows.latest.row(ExactParts::block),
                     static_cast<std::size_t>(rest * columns_) * sizeof(Half));
    }

private:
    Index columns_;
    AlignedBuffer<Half> first_;   // [exact.first, columns]
    AlignedBuffer<T> packed_;     // [packed_of(capacity), row_length(columns)]
    AlignedBuffer<Half> latest_;  // [most_latest(capacity), columns]
};

}  // namespace freqkv::detail::inline FREQKV_ISA
