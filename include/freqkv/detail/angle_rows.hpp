// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/rope.hpp"

namespace freqkv::detail {

// What Rope::angles() gives for positions 0, 1, …, as pointers: into the rope's table where that reaches,
// else to rows that are computed once and kept.
template <class C>
class AngleRows {
public:
    explicit AngleRows(Rope<C> rope) : rope_(std::move(rope)) {}
    AngleRows(const AngleRows& other) : rope_(other.rope_) { cover(static_cast<Index>(other.rows_.size())); }
    AngleRows(AngleRows&&) noexcept = default;
    AngleRows& operator=(const AngleRows& other) { return *this = AngleRows(other); }
    AngleRows& operator=(AngleRows&&) noexcept = default;
    ~AngleRows() = default;

    const Rope<C>& rope() const { return rope_; }

    // Makes positions [0, positions) available.
    void cover(Index positions) {
        if (positions <= static_cast<Index>(rows_.size())) return;
        const auto row = static_cast<std::size_t>(2 * rope_.pairs());
        const Index tabulated = rope_.table_positions();
        const Index computed = positions > tabulated ? positions - tabulated : 0;
        computed_.resize(static_cast<std::size_t>(computed) * row);
        rows_.resize(static_cast<std::size_t>(positions));
        for (std::size_t p = 0; p < rows_.size(); ++p) {
            const auto position = static_cast<Index>(p);
            C* const own =
                position < tabulated ? nullptr : computed_.data() + (p - static_cast<std::size_t>(tabulated)) * row;
            rows_[p] = rope_.angles(position, own);
        }
    }

    const C* const* data() const { return rows_.data(); }
    const C* operator[](Index position) const { return rows_[static_cast<std::size_t>(position)]; }

    // Bytes beside the rope's own table.
    Index bytes() const {
        return static_cast<Index>(computed_.capacity() * sizeof(C) + rows_.capacity() * sizeof(const C*));
    }

private:
    Rope<C> rope_;
    std::vector<C> computed_;
    std::vector<const C*> rows_;
};

}  // namespace freqkv::detail
