// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

namespace freqkv {

/// No compression: the cache grows with the text, positions are those of the text. What engines do
/// today, to compare with. Capacity, sinks and recent part have no meaning under it.
struct Full {
    static constexpr bool grows = true;
};

/// A policy under which the cache grows and nothing is compressed (Full).
template <class P>
concept GrowingPolicy = std::copyable<P> && requires { requires P::grows; };

}  // namespace freqkv
