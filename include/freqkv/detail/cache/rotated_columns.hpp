// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/pairs.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/view.hpp"

// Blocks of columns of stored keys as row sources and sinks of a transform. (Columns that do not rotate
// are MatrixRows.) This is the one place where a transform meets rotation.
namespace freqkv::detail::inline FREQKV_ISA {

// Whole pairs of rotated columns: un-rotated when loaded, rotated when stored. Column c of the block is
// the first component of pair c, column count + c its second. At most Width columns; blocks of a plan's
// width are the fast ones.
template <class T, Index Width>
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
        if (keys.column_stride == 1) vectorised_ = count;
    }

    Index columns() const { return 2 * count_; }

    void load(Index row, C* to) const {
        const T* const x = x_.row(row);
        const C* const cosines = old_angles_[row] + first_;
        const C* const sines = cosines + sines_;
        Index c = 0;
        for (; Width / 2 >= lanes && c + lanes <= vectorised_; c += lanes) {
            const auto [a, b] = load_pairs<C>(x + c * x_.column_stride, to_y_);
            const V cosine = load_lanes<C>(cosines + c);
            const V sine = load_lanes<C>(sines + c);
            store_lanes<C>(to + c, a * cosine + b * sine);
            store_lanes<C>(to + count_ + c, b * cosine - a * sine);
        }
        for (; c < count_; ++c) {
            const C a = static_cast<C>(x[c * x_.column_stride]);
            const C b = static_cast<C>(x[c * x_.column_stride + to_y_]);
            to[c] = a * cosines[c] + b * sines[c];
            to[count_ + c] = b * cosines[c] - a * sines[c];
        }
    }

    void store(Index row, const C* from) const {
        T* const x = x_.row(row);
        const C* const cosines = new_angles_[row] + first_;
        const C* const sines = cosines + sines_;
        Index c = 0;
        for (; Width / 2 >= lanes && c + lanes <= vectorised_; c += lanes) {
            const V a = load_lanes<C>(from + c);
            const V b = load_lanes<C>(from + count_ + c);
            const V cosine = load_lanes<C>(cosines + c);
            const V sine = load_lanes<C>(sines + c);
            store_pairs<C>(x + c * x_.column_stride, to_y_, a * cosine - b * sine, a * sine + b * cosine);
        }
        for (; c < count_; ++c) {
            const C a = from[c];
            const C b = from[count_ + c];
            x[c * x_.column_stride] = static_cast<T>(a * cosines[c] - b * sines[c]);
            x[c * x_.column_stride + to_y_] = static_cast<T>(a * sines[c] + b * cosines[c]);
        }
    }

private:
    using V = Lanes<C>;
    static constexpr Index lanes = lane_count<C>;

    MatrixView<T> x_;  // first components
    Index count_;
    Index vectorised_ = 0;  // pairs of which registers can be loaded
    Index sines_;           // from a row's cosines to its sines
    Index first_;
    Index to_y_ = 0;  // from a first component to its second
    const C* const* old_angles_;
    const C* const* new_angles_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
