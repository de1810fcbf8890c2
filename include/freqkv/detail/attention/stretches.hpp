// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>

#include "freqkv/config.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/view.hpp"

// Entries [begin, end) of a list in stretches of at most `most`, in order, each stored in one way.
namespace freqkv::detail::inline FREQKV_ISA {

inline Index pieces_of(Index count, Index most) { return (count + most - 1) / most; }

template <class T>
Index count_stretches(const MatrixView<T>& /*rows*/, Index begin, Index end, Index most) {
    return pieces_of(std::max<Index>(0, end - begin), most);
}
template <class T>
Index count_stretches(const PackedView<T>& rows, Index begin, Index end, Index most) {
    Index count = 0;
    rows.for_each_part(begin, end, [&](const auto& part, Index) { count += pieces_of(part.rows, most); });
    return count;
}

/// f(keys, values, index of the first) of stretch s, if there is one.
template <class T, class F>
void with_stretch(const MatrixView<T>& keys, const MatrixView<T>& values, Index begin, Index end, Index most, Index s,
                  const F& f) {
    const Index first = begin + s * most;
    const Index count = std::min(most, end - first);
    if (count > 0) f(keys.middle_rows(first, count), values.middle_rows(first, count), first);
}
template <class T, class F>
void with_stretch(const PackedView<T>& keys, const PackedView<T>& values, Index begin, Index end, Index most, Index s,
                  const F& f) {
    const auto within = [&](const auto& k, const auto& v, Index at) {  // a part whose first entry is `at`
        const Index from = std::max(begin, at), to = std::min(end, at + k.rows);
        const Index pieces = pieces_of(std::max<Index>(0, to - from), most);
        if (s >= 0 && s < pieces)
            with_stretch(k, v, from - at, to - at, most, s,
                         [&](const auto& some_keys, const auto& some_values, Index first) {
                             f(some_keys, some_values, at + first);
                         });
        s -= pieces;
    };
    within(keys.first, values.first, 0);
    within(keys.packed, values.packed, keys.first.rows);
    within(keys.latest, values.latest, keys.first.rows + keys.packed.rows);
}

}  // namespace freqkv::detail::inline FREQKV_ISA
