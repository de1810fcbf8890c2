// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "freqkv/config.hpp"

// The DCT by a complex FFT of the same length (Makhoul 1980), as the backends do it. Two real columns ride in one
// complex column z. Let V = FFT(z) of its rows in another order, the even ones ascending and then the odd ones
// descending, and W_k = exp(-i pi k / 2n). Then
//
//     forward   X_k = f(k)/2 (W_k V_k + conj(W_k) V_{n-k})           V_n = V_0
//     inverse   V_k = f(k)/2 conj(W_k) (X_k - i X_{n-k})             V_0 = f(0) X_0, z = inverse FFT(V)
namespace freqkv::detail {

/// f(1)/2 (cos, sin)(pi k / 2n) for each k, [n][2].
template <class T>
[[gnu::cold]] std::vector<T> makhoul_turns(Index n) {
    std::vector<T> turns;
    turns.reserve(static_cast<std::size_t>(2 * n));
    const long double unit = std::numbers::pi_v<long double> / (2 * static_cast<long double>(n));
    const long double factor = 1 / std::sqrt(2 * static_cast<long double>(n));
    for (Index k = 0; k < n; ++k) {
        const long double angle = static_cast<long double>(k) * unit;
        turns.push_back(static_cast<T>(factor * std::cos(angle)));
        turns.push_back(static_cast<T>(factor * std::sin(angle)));
    }
    return turns;
}

}  // namespace freqkv::detail
