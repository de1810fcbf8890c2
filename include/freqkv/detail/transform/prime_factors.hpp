// SPDX-License-Identifier: MIT
#pragma once

#include <initializer_list>

#include "freqkv/config.hpp"

namespace freqkv::detail {

/// Whether n >= 1 has no prime factor above 5: transforms of such lengths are fast.
constexpr bool has_no_prime_above_5(Index n) {
    for (const Index p : {2, 3, 5}) {
        while (n % p == 0) n /= p;
    }
    return n == 1;
}

/// The smallest length that a convolution of n points can be done in, 2 n - 1 or more, without a prime factor above 5.
constexpr Index convolution_length(Index n) {
    Index length = 2 * n - 1;
    while (!has_no_prime_above_5(length)) ++length;
    return length;
}

}  // namespace freqkv::detail
