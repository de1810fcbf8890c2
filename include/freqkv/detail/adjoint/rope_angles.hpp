// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/rope.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

/// What Rope::angles() gives for positions 0, 1, …, for reading from many threads: pointers into the rope's table
/// where that reaches, else to rows that are computed once and kept.
template <class C>
class RopeAngles {
public:
    explicit RopeAngles(Rope<C> rope, Index positions = 0) : rope_(std::move(rope)) { cover(positions); }
    RopeAngles(const RopeAngles& other) : RopeAngles(other.rope_, other.positions()) {}
    RopeAngles(RopeAngles&&) noexcept = default;
    RopeAngles& operator=(const RopeAngles& other) { return *this = RopeAngles(other); }
    RopeAngles& operator=(RopeAngles&&) noexcept = default;
    ~RopeAngles() = default;

    const Rope<C>& rope() const { return rope_; }

    /// Positions [0, positions()) are available.
    Index positions() const { return static_cast<Index>(rows_.size()); }

    /// Makes positions [0, positions) available, and keeps those that are.
    void cover(Index positions) {
        if (positions <= this->positions()) return;
        const auto row = static_cast<std::size_t>(2 * rope_.pairs());
        const auto tabulated = static_cast<std::size_t>(rope_.table_positions());
        rows_.resize(static_cast<std::size_t>(positions));
        computed_.resize(rows_.size() > tabulated ? (rows_.size() - tabulated) * row : 0);
        for (std::size_t p = 0; p < rows_.size(); ++p) {
            C* const own = p < tabulated ? nullptr : computed_.data() + (p - tabulated) * row;
            rows_[p] = rope_.angles(static_cast<Index>(p), own);
        }
    }

    /// The angles of a position, as Rope::turn() takes them.
    const C* operator[](Index position) const { return rows_[static_cast<std::size_t>(position)]; }
    /// Those of position i are data()[i].
    const C* const* data() const { return rows_.data(); }

    /// Bytes beside the rope's own table.
    Index bytes() const {
        return static_cast<Index>(computed_.capacity() * sizeof(C) + rows_.capacity() * sizeof(const C*));
    }

private:
    Rope<C> rope_;
    std::vector<C> computed_;
    std::vector<const C*> rows_;
};

}  // namespace freqkv::detail::inline FREQKV_ISA
