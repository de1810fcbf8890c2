// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "llama/model/config.hpp"
#include "llama/model/random.hpp"

namespace llama {

/// A random order of [0, size), the same for a key on every platform. Any place of it is computed by itself: a
/// Feistel network permutes the numbers below a power of four, and what falls outside is permuted again.
class ShuffledOrder {
public:
    /// `size` is 1 to 2^60.
    ShuffledOrder(Index size, std::uint64_t key) : size_(static_cast<std::uint64_t>(size)) {
        while (std::uint64_t{1} << (2 * half_bits_) < size_) ++half_bits_;
        Random random(key);
        for (std::uint64_t& round_key : round_keys_) round_key = random.next();
    }

    /// What stands at place `i` in [0, size). Fewer than four permutations on average.
    Index operator[](Index i) const {
        auto number = static_cast<std::uint64_t>(i);
        do {
            number = permute(number);
        } while (number >= size_);
        return static_cast<Index>(number);
    }

private:
    std::uint64_t permute(std::uint64_t number) const {
        const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
        std::uint64_t left = number >> half_bits_;
        std::uint64_t right = number & mask;
        for (const std::uint64_t key : round_keys_) {
            const std::uint64_t mixed = left ^ (Random(key ^ right).next() & mask);
            left = right;
            right = mixed;
        }
        return left << half_bits_ | right;
    }

    std::uint64_t size_;
    unsigned half_bits_ = 1;  // of a number's two halves
    std::array<std::uint64_t, 8> round_keys_{};
};

}  // namespace llama
