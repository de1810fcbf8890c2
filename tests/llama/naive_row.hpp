// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "llama/model/dequantize.hpp"

namespace llama::test {

inline constexpr WeightType all_types[] = {WeightType::f32,  WeightType::f16,  WeightType::bf16, WeightType::q8_0,
                                           WeightType::q4_0, WeightType::q4_k, WeightType::q6_k};

inline double half(unsigned bits) {
    const double sign = bits >> 15U ? -1 : 1;
    const int exponent = static_cast<int>(bits >> 10U & 31U);
    const int mantissa = static_cast<int>(bits & 1023U);
    if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
    return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

// A row of any type, number by number, as the format is described.
class NaiveRow {
public:
    NaiveRow(WeightType type, const std::string& bytes) : type_(type), bytes_(bytes) {}

    double at(std::size_t i) const {
        switch (type_) {
            case WeightType::f32:
                return std::bit_cast<float>(byte(4 * i) | byte(4 * i + 1) << 8U | byte(4 * i + 2) << 16U |
                                            byte(4 * i + 3) << 24U);
            case WeightType::f16:
                return half_at(2 * i);
            case WeightType::bf16:
                return std::bit_cast<float>(byte(2 * i) << 16U | byte(2 * i + 1) << 24U);
            case WeightType::q8_0:
                return half_at(i / 32 * 34) * signed_byte(i / 32 * 34 + 2 + i % 32);
            case WeightType::q4_0:
                return half_at(i / 32 * 18) * (nibble(i / 32 * 18 + 2 + i % 16, i % 32 / 16) - 8);
            case WeightType::q4_k:
                return q4_k(i / 256 * 144, i % 256);
            case WeightType::q6_k:
                return q6_k(i / 256 * 210, i % 256);
        }
        return NAN;
    }

private:
    unsigned byte(std::size_t i) const { return static_cast<unsigned char>(bytes_[i]); }
    int signed_byte(std::size_t i) const { return static_cast<signed char>(bytes_[i]); }
    double half_at(std::size_t i) const { return half(byte(i) | byte(i + 1) << 8U); }
    int nibble(std::size_t i, std::size_t upper) const { return static_cast<int>(upper ? byte(i) / 16 : byte(i) % 16); }

    double q4_k(std::size_t block, std::size_t i) const {
        const std::size_t scales = block + 4;
        const std::size_t part = i / 32;
        unsigned scale = 0;
        unsigned minimum = 0;
        if (part < 4) {
            scale = byte(scales + part) % 64;
            minimum = byte(scales + part + 4) % 64;
        } else {
            scale = byte(scales + part + 4) % 16 + byte(scales + part - 4) / 64 * 16;
            minimum = byte(scales + part + 4) / 16 + byte(scales + part) / 64 * 16;
        }
        return half_at(block) * scale * nibble(block + 16 + i / 64 * 32 + i % 32, part % 2) -
               half_at(block + 2) * minimum;
    }

    double q6_k(std::size_t block, std::size_t i) const {
        const std::size_t half_block = i / 128;
        const std::size_t k = i % 128;
        const int low = nibble(block + 64 * half_block + k % 64, k / 64);
        const int high = static_cast<int>(byte(block + 128 + 32 * half_block + k % 32) >> (k / 32 * 2) & 3U);
        return half_at(block + 208) * signed_byte(block + 192 + i / 16) * (low + 16 * high - 32);
    }

    WeightType type_;
    const std::string& bytes_;
};

// Random blocks whose halves are finite.
inline std::string random_row(WeightType type, Index columns, unsigned seed) {
    const WeightFormat format = format_of(type);
    std::mt19937 random(seed);
    std::string bytes(static_cast<std::size_t>(columns / format.block * format.bytes), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::size_t step = static_cast<std::size_t>(format.bytes);
    for (std::size_t block = 0; block < bytes.size(); block += step) {
        const auto tame = [&](std::size_t upper_byte) {
            char& byte = bytes[block + upper_byte];
            byte = static_cast<char>(byte & 0xbf);
        };
        if (type == WeightType::q6_k) {
            tame(209);
        } else {
            tame(step == 4 ? 3 : 1);
        }
        if (type == WeightType::q4_k) tame(3);
    }
    return bytes;
}

inline Weights row_of(WeightType type, const std::string& bytes, Index columns) {
    return {reinterpret_cast<const std::byte*>(bytes.data()), type, 1, columns};
}

inline std::vector<float> dequantized(const Weights& weights, Index row = 0) {
    std::vector<float> values(static_cast<std::size_t>(weights.columns));
    dequantize(weights, row, 0, weights.columns, values.data());
    return values;
}

}  // namespace llama::test
