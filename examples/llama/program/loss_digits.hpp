// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

// Losses as one string: of a long text they would be millions of JSON values.
namespace llama {

inline constexpr std::size_t digits_of_loss = 16;

/// The bits of each loss as hexadecimal digits.
inline std::string to_digits(std::span<const double> losses) {
    std::string digits;
    digits.reserve(losses.size() * digits_of_loss);
    for (const double loss : losses) {
        const auto bits = std::bit_cast<std::uint64_t>(loss);
        for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[bits >> shift & 15];
    }
    return digits;
}

/// The same losses again. Throws std::runtime_error for what are no losses.
inline std::vector<double> from_digits(std::string_view digits) {
    if (digits.size() % digits_of_loss != 0) throw std::runtime_error("a loss is cut off");
    std::vector<double> losses;
    losses.reserve(digits.size() / digits_of_loss);
    for (; !digits.empty(); digits.remove_prefix(digits_of_loss)) {
        std::uint64_t bits = 0;
        const char* const begin = &digits.front();
        const char* const end = begin + digits_of_loss;
        const auto [read, error] = std::from_chars(begin, end, bits, 16);
        const auto loss = std::bit_cast<double>(bits);
        if (error != std::errc{} || read != end || !std::isfinite(loss)) throw std::runtime_error("no loss");
        losses.push_back(loss);
    }
    return losses;
}

}  // namespace llama
