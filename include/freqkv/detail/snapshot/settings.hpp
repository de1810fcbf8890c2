// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/packed.hpp"
#include "freqkv/policy/describe.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "freqkv/stored_element.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

template <class T>
std::string element_name() {
    if constexpr (is_packed<T>) {
        return "packed, " + std::to_string(T::bits) + " bits";
    } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
        return "float, " + std::to_string(8 * sizeof(T)) + " bits";
    } else if constexpr (element_format<T> == ElementFormat::half) {
        return "half";
    } else if constexpr (element_format<T> == ElementFormat::bfloat16) {
        return "bfloat16";
    } else {
        return "of the program, " + std::to_string(8 * sizeof(T)) + " bits";
    }
}

// To nine digits, so that machines whose pow() differs in the last bit agree.
template <class C>
std::string describe_rotation(const Rope<C>& rope) {
    double sum = 0, weighted = 0;
    double number = 0;
    for (const double frequency : rope.frequencies()) {
        sum += frequency;
        weighted += ++number * frequency;
    }
    std::array<char, 128> text{};
    std::snprintf(text.data(), text.size(), "%s pairs %lld, frequencies %.9g and %.9g, steps %lld",
                  rope.pairing() == RopePairing::adjacent ? "adjacent" : "half-split",
                  static_cast<long long>(rope.pairs()), sum, weighted, static_cast<long long>(rope.steps()));
    return text.data();
}

// What a snapshot and the cache that it is loaded into must have in common, a line each.
template <class T, class P>
std::string snapshot_settings(const SinkedKVCache<T, P>& cache) {
    std::string text;
    const auto add = [&](const char* name, const auto& value) {
        text += name;
        if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>) {
            text += " " + std::to_string(value) + "\n";
        } else {
            text += " " + std::string(value) + "\n";
        }
    };
    const CacheOptions& options = cache.options();
    add("policy", describe_policy(cache.policy()));
    add("elements", element_name<T>());
    add("rotation", describe_rotation(cache.rope()));
    add("positions", options.positions == Positions::text ? "of the text" : "of entries");
    add("kv_heads", options.kv_heads);
    add("query_heads", options.query_heads);
    add("key_dim", options.key_dim);
    add("value_dim", options.value_dim);
    add("sinks", options.sinks);
    add("recent", options.recent);
    add("weighted", options.weighted);
    if constexpr (is_packed<T>) add("exact", options.exact);
    if constexpr (!GrowingPolicy<P>) {
        std::string capacities;
        for (const Index capacity : options.head_capacities) capacities += " " + std::to_string(capacity);
        add("capacities", capacities.substr(1));
    }
    return text;
}

// Throws Error that names the first line that differs.
inline void require_settings(std::string_view found, std::string_view wanted) {
    if (found == wanted) return;
    const auto line = [](std::string_view& text) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view first = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        return first;
    };
    constexpr std::size_t longest = 200;  // of what a file says
    std::string_view theirs, ours;
    do {
        theirs = line(found), ours = line(wanted);
    } while (theirs == ours && !(found.empty() && wanted.empty()));
    refuse("cache of the snapshot", "\"" + std::string(theirs.substr(0, longest)) + "\"",
           "must be as this one: \"" + std::string(ours) + "\"");
}

}  // namespace freqkv::detail::inline FREQKV_ISA
