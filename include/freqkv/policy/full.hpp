// SPDX-License-Identifier: MIT
#pragma once

namespace freqkv {

/// No compression: the cache grows with the text, positions are those of the text. What engines do
/// today, to compare with. Capacity, sinks and recent part have no meaning under it.
struct Full {
    static constexpr bool grows = true;
};

}  // namespace freqkv
