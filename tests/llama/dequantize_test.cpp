// SPDX-License-Identifier: MIT
#include "llama/model/dequantize.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "llama/formats/gguf_file.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/model/quantized.hpp"
#include "llama/naive_row.hpp"

namespace llama {
namespace {

using test::all_types;
using test::bytes_of;
using test::dequantized;
using test::half;
using test::NaiveRow;
using test::random_row;
using test::row_of;
using testing::ElementsAre;

TEST(Halves, AllPatternsAreConverted) {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const auto pattern = static_cast<std::uint16_t>(bits);
        const double expected = half(bits);
        const std::string bytes = bytes_of(pattern);
        for (const float value :
             {detail::half_from_bits(pattern), detail::load_half(reinterpret_cast<const std::byte*>(bytes.data()))}) {
            if (std::isnan(expected)) {
                ASSERT_TRUE(std::isnan(value)) << bits;
            } else {
                ASSERT_EQ(value, static_cast<float>(expected)) << bits;
                ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
            }
        }
    }
}

TEST(Dequantize, EveryTypeIsTheNaiveOneBitForBit) {
    constexpr Index columns = 64 * 256;
    for (const WeightType type : all_types) {
        const std::string bytes = random_row(type, columns, 1);
        const NaiveRow naive(type, bytes);
        const std::vector<float> values = dequantized(row_of(type, bytes, columns));
        for (std::size_t i = 0; i < values.size(); ++i) {
            const auto expected = static_cast<float>(naive.at(i));
            ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(expected))
                << format_of(type).name << ", number " << i << ": " << values[i] << " for " << expected;
        }
    }
}

TEST(Dequantize, APartOfAnyRowBeginsAndEndsAtBlocks) {
    constexpr Index rows = 3;
    constexpr Index columns = 5 * 256;
    for (const WeightType type : all_types) {
        std::string bytes = random_row(type, rows * columns, 2);
        const Weights weights{reinterpret_cast<const std::byte*>(bytes.data()), type, rows, columns};
        const NaiveRow naive(type, bytes);
        const Index block = format_of(type).block;
        for (const Index first : {Index{0}, block, 256 + block}) {
            for (const Index count : {Index{0}, block, 512 + block}) {
                constexpr float untouched = 1234;
                std::vector<float> values(static_cast<std::size_t>(count) + 1, untouched);
                dequantize(weights, 2, first, count, values.data());
                for (Index i = 0; i < count; ++i) {
                    const auto at = static_cast<std::size_t>(2 * columns + first + i);
                    ASSERT_EQ(values[static_cast<std::size_t>(i)], static_cast<float>(naive.at(at)))
                        << format_of(type).name << ", columns " << first << " + " << i;
                }
                EXPECT_EQ(values.back(), untouched) << format_of(type).name << " writes past the columns asked for";
            }
        }
    }
}

TEST(Dequantize, BlocksWorkedOutByHand) {
    // Scale 0.5.
    const std::string half_of_one("\x00\x38", 2);
    // Scale 0.5; 1, -1, 127, -128, 0 ...
    const std::string q8_0 = half_of_one + std::string("\x01\xff\x7f\x80", 4) + std::string(28, '\0');
    std::vector<float> values = dequantized(row_of(WeightType::q8_0, q8_0, 32));
    EXPECT_THAT(std::vector<float>(values.begin(), values.begin() + 5), ElementsAre(0.5F, -0.5F, 63.5F, -64, 0));

    // Byte 0 holds number 0 (15, for 7) and number 16 (0, for -8).
    const std::string q4_0 = half_of_one + std::string("\x0f", 1) + std::string(15, '\x88');
    values = dequantized(row_of(WeightType::q4_0, q4_0, 32));
    EXPECT_EQ(values[0], 3.5F);
    EXPECT_EQ(values[16], -4);
    EXPECT_EQ(values[1], 0);

    // Scale 0.5, minimum 2. Part 0: 3 and 1; part 5: 63 and 33, of two pieces. Numbers 0 and 32 are 2 and 9,
    // numbers 128 and 160 (the first of part 5) are 1 and 15.
    std::string q4_k = half_of_one + std::string("\x00\x40", 2) + std::string(140, '\0');
    q4_k[4 + 0] = 3;
    q4_k[4 + 4] = 1;
    q4_k[4 + 1] = static_cast<char>(0xc0);      // part 5's scale, upper bits: 3
    q4_k[4 + 5] = static_cast<char>(0x80);      // part 5's minimum, upper bits: 2
    q4_k[4 + 8 + 1] = static_cast<char>(0x1f);  // lower bits: 15 and 1
    q4_k[16] = static_cast<char>(0x92);
    q4_k[16 + 64] = static_cast<char>(0xf1);
    values = dequantized(row_of(WeightType::q4_k, q4_k, 256));
    EXPECT_EQ(values[0], 0.5F * 3 * 2 - 2 * 1);
    EXPECT_EQ(values[32], 0) << "part 1 has scale 0";
    EXPECT_EQ(values[128], 0) << "part 4 has scale 0";
    EXPECT_EQ(values[160], 0.5F * 63 * 15 - 2 * 33);
    EXPECT_EQ(values[161], -66);

    // Scale 0.5. Number 0: 5 + 16 * 2 - 32 = 5 at scale 7; number 96: 10 + 16 * 3 - 32 = 26 at scale -3.
    std::string q6_k = std::string(208, '\0') + half_of_one;
    q6_k[0] = 5;
    q6_k[32] = static_cast<char>(0xa0);
    q6_k[128] = static_cast<char>(0xc2);
    q6_k[192] = 7;
    q6_k[192 + 6] = -3;
    values = dequantized(row_of(WeightType::q6_k, q6_k, 256));
    EXPECT_EQ(values[0], 0.5F * 7 * 5);
    EXPECT_EQ(values[96], 0.5F * -3 * 26);
    EXPECT_EQ(values[1], 0.5F * 7 * -32);
}

TEST(Dequantize, NumbersAreThoseOfThePackageGguf) {
    const GgufFile file(FREQKV_FIXTURES_DIR "/gguf_blocks.gguf");
    int compared = 0;
    for (const auto& [name, tensor] : file.tensors()) {
        const GgufTensor* const expected = file.find_tensor(std::string(name) + ".expected");
        if (expected == nullptr) continue;
        ASSERT_TRUE(tensor.type) << name;
        const std::vector<float> values =
            dequantized({tensor.data.data(), *tensor.type, tensor.shape[1], tensor.shape[0]});
        ASSERT_EQ(values.size() * sizeof(float), expected->data.size()) << name;
        EXPECT_EQ(std::memcmp(values.data(), expected->data.data(), expected->data.size()), 0) << name;
        ++compared;
    }
    EXPECT_EQ(compared, static_cast<int>(weight_types) - 1) << "all types but F32";
}

}  // namespace
}  // namespace llama
