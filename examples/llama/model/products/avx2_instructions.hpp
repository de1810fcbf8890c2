// SPDX-License-Identifier: MIT
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Registers of 256 bits for byte_products.hpp. Unnamed, as byte_blocks.hpp.
namespace llama::detail {
namespace {

struct Avx2Registers {
    using Integers [[gnu::vector_size(32)]] = std::int32_t;
    using Floats [[gnu::vector_size(32)]] = float;
    static constexpr int lanes = 8;
    static constexpr int tokens = 4;

    static Integers load(const std::uint32_t* from) {
        Integers x;
        std::memcpy(&x, from, sizeof x);
        return x;
    }
    static Floats load(const float* from) {
        Floats x;
        std::memcpy(&x, from, sizeof x);
        return x;
    }
    static void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }
    static Floats to_floats(Integers x) { return __builtin_convertvector(x, Floats); }
};

}  // namespace
}  // namespace llama::detail
