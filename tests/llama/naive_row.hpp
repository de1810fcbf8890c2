// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "llama/model/dequantize.hpp"

namespace llama::test {

inline constexpr auto all_types = [] {
    std::array<WeightType, weight_types> types{};
    for (std::size_t i = 0; i < types.size(); ++i) types[i] = static_cast<WeightType>(i);
    return types;
}();

// Where in a block the halves stand that its numbers are multiples of.
inline std::vector<std::size_t> halves_of(WeightType type) {
    switch (type) {
        case WeightType::f32:
        case WeightType::bf16:
            return {};
        case WeightType::f16:
        case WeightType::q4_0:
        case WeightType::q5_0:
        case WeightType::q8_0:
        case WeightType::iq4_nl:
        case WeightType::iq4_xs:
            return {0};
        case WeightType::q4_1:
        case WeightType::q5_1:
        case WeightType::q4_k:
        case WeightType::q5_k:
            return {0, 2};
        case WeightType::q2_k:
            return {80, 82};
        case WeightType::q3_k:
            return {108};
        case WeightType::q6_k:
            return {208};
    }
    return {};
}

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
            case WeightType::q4_0:
                return half_at(i / 32 * 18) * (nibble_of_32(i / 32 * 18 + 2, i % 32) - 8);
            case WeightType::q4_1:
                return half_at(i / 32 * 20) * nibble_of_32(i / 32 * 20 + 4, i % 32) + half_at(i / 32 * 20 + 2);
            case WeightType::q5_0:
                return half_at(i / 32 * 22) * (five_bits(i / 32 * 22 + 2, i % 32) - 16);
            case WeightType::q5_1:
                return half_at(i / 32 * 24) * five_bits(i / 32 * 24 + 4, i % 32) + half_at(i / 32 * 24 + 2);
            case WeightType::q8_0:
                return half_at(i / 32 * 34) * signed_byte(i / 32 * 34 + 2 + i % 32);
            case WeightType::iq4_nl:
                return half_at(i / 32 * 18) * iq4(nibble_of_32(i / 32 * 18 + 2, i % 32));
            case WeightType::q2_k:
                return q2_k(i / 256 * 84, i % 256);
            case WeightType::q3_k:
                return q3_k(i / 256 * 110, i % 256);
            case WeightType::q4_k:
                return q4_k(i / 256 * 144, i % 256, 0);
            case WeightType::q5_k:
                return q4_k(i / 256 * 176, i % 256, 32);
            case WeightType::q6_k:
                return q6_k(i / 256 * 210, i % 256);
            case WeightType::iq4_xs:
                return iq4_xs(i / 256 * 136, i % 256);
        }
        return NAN;
    }

private:
    unsigned byte(std::size_t i) const { return static_cast<unsigned char>(bytes_[i]); }
    int signed_byte(std::size_t i) const { return static_cast<signed char>(bytes_[i]); }
    double half_at(std::size_t i) const { return half(byte(i) | byte(i + 1) << 8U); }
    int nibble(std::size_t i, std::size_t upper) const { return static_cast<int>(upper ? byte(i) / 16 : byte(i) % 16); }

    int bit(std::size_t at, std::size_t number) const {
        return static_cast<int>(byte(at + number / 8) >> number % 8 & 1U);
    }
    int nibble_of_32(std::size_t at, std::size_t i) const { return nibble(at + i % 16, i / 16); }
    int five_bits(std::size_t at, std::size_t i) const { return nibble_of_32(at + 4, i) + 16 * bit(at, i); }
    // Two bits of one of 64 bytes.
    int two_bits(std::size_t at, std::size_t i) const {
        return static_cast<int>(byte(at + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3U);
    }
    static int iq4(int place) {
        constexpr int values[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
        return values[place];
    }

    double q2_k(std::size_t block, std::size_t i) const {
        const unsigned part = byte(block + i / 16);
        return half_at(block + 80) * (part % 16) * two_bits(block + 16, i) - half_at(block + 82) * (part / 16);
    }

    double q3_k(std::size_t block, std::size_t i) const {
        const std::size_t scales = block + 96;
        const std::size_t part = i / 16;
        const int low = nibble(scales + part % 8, part / 8);
        const int high = static_cast<int>(byte(scales + 8 + part % 4) >> (part / 4 * 2) & 3U);
        const int number = two_bits(block + 32, i) + 4 * static_cast<int>(byte(block + i % 32) >> i / 32 & 1U) - 4;
        return half_at(block + 108) * (low + 16 * high - 32) * number;
    }

    // With `fifth` bytes of upper bits, also Q5_K.
    double q4_k(std::size_t block, std::size_t i, std::size_t fifth) const {
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
        int number = nibble(block + 16 + fifth + i / 64 * 32 + i % 32, part % 2);
        if (fifth > 0) number += 16 * static_cast<int>(byte(block + 16 + i % 32) >> part & 1U);
        return half_at(block) * scale * number - half_at(block + 2) * minimum;
    }

    double q6_k(std::size_t block, std::size_t i) const {
        const std::size_t half_block = i / 128;
        const std::size_t k = i % 128;
        const int low = nibble(block + 64 * half_block + k % 64, k / 64);
        const int high = static_cast<int>(byte(block + 128 + 32 * half_block + k % 32) >> (k / 32 * 2) & 3U);
        return half_at(block + 208) * signed_byte(block + 192 + i / 16) * (low + 16 * high - 32);
    }

    double iq4_xs(std::size_t block, std::size_t i) const {
        const std::size_t part = i / 32;
        const int high = static_cast<int>(byte(block + 2 + part / 4) >> part % 4 * 2 & 3U);
        const int scale = nibble(block + 4 + part / 2, part % 2) + 16 * high - 32;
        return half_at(block) * scale * iq4(nibble_of_32(block + 8 + 16 * part, i % 32));
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
    std::vector<std::size_t> upper_bytes;  // of the exponents
    for (const std::size_t at : halves_of(type)) upper_bytes.push_back(at + 1);
    if (upper_bytes.empty()) upper_bytes.push_back(step - 1);
    for (std::size_t block = 0; block < bytes.size(); block += step) {
        for (const std::size_t at : upper_bytes) bytes[block + at] = static_cast<char>(bytes[block + at] & 0xbf);
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
