// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"

// Blocks of columns of stored keys as row sources and sinks of a transform. (Columns that do not rotate
// are MatrixRows.) This is the one place where a transform meets rotation.
namespace freqkv::detail {

// Calls f with the stride as a constant where it is 1 or 2, so that the loops in f vectorise.
template <class F>
void with_constant_stride(Index stride, F&& f) {
    if (stride == 1) {
        f(std::integral_constant<Index, 1>{});
    } else if (stride == 2) {
        f(std::integral_constant<Index, 2>{});
    } else {
        f(stride);
    }
}

// Whole pairs of rotated columns: un-rotated when loaded, rotated when stored. Column c of the block is
// the first component of pair c, column count + c its second.
template <class T>
class RotatedColumns {
public:
    using C = Arithmetic<T>;

    // Pairs [first, first + count) of `keys`; old_angles and new_angles hold for each row of `keys` what
    // Rope::angles() gives for its position before and after.
    RotatedColumns(MatrixView<T> keys, const Rope<C>& rope, Index first, Index count, const C* const* old_angles,
                   const C* const* new_angles)
        : x_(keys),
          count_(count),
          sines_(rope.pairs()),
          first_(first),
          old_angles_(old_angles),
          new_angles_(new_angles) {
        const bool adjacent = rope.pairing() == RopePairing::adjacent;
        x_.data += (adjacent ? 2 * first : first) * keys.column_stride;
        to_y_ = (adjacent ? 1 : rope.pairs()) * keys.column_stride;
        x_.column_stride = (adjacent ? 2 : 1) * keys.column_stride;
    }

    Index columns() const { return 2 * count_; }

    void load(Index row, C* to) const {
        const T* const x = x_.row(row);
        const T* const y = x + to_y_;
        const C* const cosines = old_angles_[row] + first_;
        const C* const sines = cosines + sines_;
        with_constant_stride(x_.column_stride, [&](auto stride) {
            for (Index c = 0; c < count_; ++c) {
                const C a = static_cast<C>(x[c * stride]);
                const C b = static_cast<C>(y[c * stride]);
                to[c] = a * cosines[c] + b * sines[c];
                to[count_ + c] = b * cosines[c] - a * sines[c];
            }
        });
    }

    void store(Index row, const C* from) const {
        T* const x = x_.row(row);
        T* const y = x + to_y_;
        const C* const cosines = new_angles_[row] + first_;
        const C* const sines = cosines + sines_;
        with_constant_stride(x_.column_stride, [&](auto stride) {
            for (Index c = 0; c < count_; ++c) {
                const C a = from[c];
                const C b = from[count_ + c];
                x[c * stride] = static_cast<T>(a * cosines[c] - b * sines[c]);
                y[c * stride] = static_cast<T>(a * sines[c] + b * cosines[c]);
            }
        });
    }

private:
    MatrixView<T> x_;  // first components
    Index count_;
    Index sines_;  // from a row's cosines to its sines
    Index first_;
    Index to_y_ = 0;  // from a first component to its second
    const C* const* old_angles_;
    const C* const* new_angles_;
};

}  // namespace freqkv::detail
