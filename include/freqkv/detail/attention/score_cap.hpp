// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

// cap * tanh(score / cap). From exp(-2 |score| / cap), which cannot overflow; the error is that of the rounding of
// `cap`, whatever the size of the score.
template <class C>
FREQKV_INLINE Lanes<C> capped(Lanes<C> score, C cap) {
    const Lanes<C> size = score < C{0} ? -score : score;
    const Lanes<C> e = exp_lanes<C>(size * (C{-2} / cap));
    const Lanes<C> result = cap * ((C{1} - e) / (C{1} + e));
    return score < C{0} ? -result : result;
}

// Caps `count` scores, a multiple of lane_count<C>.
template <class C>
[[gnu::flatten]] void cap_scores(C* scores, Index count, C cap) {
    for (Index i = 0; i < count; i += lane_count<C>) store_lanes<C>(scores + i, capped(load_lanes<C>(scores + i), cap));
}

}  // namespace freqkv::detail::inline FREQKV_ISA
