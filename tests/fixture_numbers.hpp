// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "freqkv/config.hpp"

namespace freqkv::test {

// The generator that the fixtures' inputs were drawn from.
class Numbers {
public:
    explicit Numbers(std::uint64_t seed) : state_(seed) {}

    std::vector<double> draw(Index count) {
        std::vector<double> values(static_cast<std::size_t>(count));
        for (double& value : values) {
            state_ = state_ * 6364136223846793005U + 1442695040888963407U;
            value = static_cast<double>(state_ >> 11U) * 0x1p-52 - 1;
        }
        return values;
    }

private:
    std::uint64_t state_;
};

}  // namespace freqkv::test
