// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"

// Pairs of elements that turn together, by the register. The second of a pair stands `distance` behind the
// first, and pairs are dense: at distance 1 they alternate, else their first elements are neighbours.
namespace freqkv::detail::inline FREQKV_ISA {

/// The first elements of lane_count<C> pairs, and the second ones.
template <class C, class T>
std::pair<Lanes<C>, Lanes<C>> load_pairs(const T* first, Index distance) {
    if (distance != 1) return {load_lanes<C>(first), load_lanes<C>(first + distance)};
    const Lanes<C> low = load_lanes<C>(first);
    const Lanes<C> high = load_lanes<C>(first + lane_count<C>);
    return {even_elements<C>(low, high), odd_elements<C>(low, high)};
}

template <class C, class T>
void store_pairs(T* first, Index distance, const Lanes<C>& x, const Lanes<C>& y) {
    const bool alternate = distance == 1;
    store_lanes<C>(first, alternate ? interleaved_low<C>(x, y) : x);
    store_lanes<C>(first + (alternate ? lane_count<C> : distance), alternate ? interleaved_high<C>(x, y) : y);
}

}  // namespace freqkv::detail::inline FREQKV_ISA
