// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string>

// Numbers for people.
namespace llama {

/// printf into a string.
template <class... Values>
std::string format(const char* pattern, Values... values) {
    char text[256];
    std::snprintf(text, sizeof text, pattern, values...);
    return text;
}

/// "1.25", "infinite" or "not a number", whose sign and spelling by printf say nothing.
inline std::string format_number(double value) {
    if (std::isnan(value)) return "not a number";
    if (std::isinf(value)) return value < 0 ? "minus infinite" : "infinite";
    return format("%g", value);
}

/// "1.25 MiB"
inline std::string format_bytes(std::int64_t bytes) {
    static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
    return unit == 0 ? std::to_string(bytes) + " B"
                     : format("%.*f %s",
                              value < 10    ? 2
                              : value < 100 ? 1
                                            : 0,
                              value, units[unit]);
}

/// "1:02:03" or "2:03"
inline std::string format_duration(double seconds) {
    const auto whole = std::llround(seconds);
    if (whole >= 3600) return format("%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    return format("%lld:%02lld", whole / 60, whole % 60);
}

}  // namespace llama
