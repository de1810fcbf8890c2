// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "llama/model/config.hpp"
#include "llama/model/random.hpp"

// Draws that are the same for a seed on every platform.
namespace llama {

/// Uniform in [0, bound); `bound` is at least 1.
inline Index draw_below(Random& random, Index bound) {
    const auto range = static_cast<std::uint64_t>(bound);
    // Below it every remainder is as frequent.
    const std::uint64_t whole = std::numeric_limits<std::uint64_t>::max() / range * range;
    std::uint64_t number = random.next();
    while (number >= whole) number = random.next();
    return static_cast<Index>(number % range);
}

/// One of a list that is not empty.
template <class List>
const auto& draw_from(Random& random, const List& list) {
    return list[static_cast<std::size_t>(draw_below(random, static_cast<Index>(list.size())))];
}

/// Every order is as likely.
template <class Value>
void shuffle(std::vector<Value>& values, Random& random) {
    for (std::size_t left = values.size(); left > 1; --left) {
        std::swap(values[left - 1], values[static_cast<std::size_t>(draw_below(random, static_cast<Index>(left)))]);
    }
}

}  // namespace llama
