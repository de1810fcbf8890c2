// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/formats/gguf_file.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/quantized.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::bytes_of;
using test::GgufModelOptions;
using test::GgufTypes;
using test::GgufWriter;
using test::small_gguf;
using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr WeightType all_types[] = {WeightType::f32,  WeightType::f16,  WeightType::bf16, WeightType::q8_0,
                                    WeightType::q4_0, WeightType::q4_k, WeightType::q6_k};

// ---- Blocks ----

double half(unsigned bits) {
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
std::string random_row(WeightType type, Index columns, unsigned seed) {
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

Weights row_of(WeightType type, const std::string& bytes, Index columns) {
    return {reinterpret_cast<const std::byte*>(bytes.data()), type, 1, columns};
}

std::vector<float> dequantized(const Weights& weights, Index row = 0) {
    std::vector<float> values(static_cast<std::size_t>(weights.columns));
    dequantize(weights, row, 0, weights.columns, values.data());
    return values;
}

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
    EXPECT_EQ(compared, 6) << "types of weights";
}

// ---- The file's structure ----

class Gguf : public testing::Test {
protected:
    std::string write(const std::string& bytes) const { return directory_.write("model.gguf", bytes); }

    // The message without the path.
    std::string refusal(const std::string& bytes, const std::function<void(const std::string&)>& read) const {
        const std::string path = write(bytes);
        try {
            read(path);
        } catch (const FileError& error) {
            const std::string what = error.what();
            EXPECT_TRUE(what.starts_with(path + ": ")) << what;
            EXPECT_EQ(what.find('\n'), std::string::npos) << "more than one line: " << what;
            return what.substr(path.size() + 2);
        }
        return "accepted";
    }
    std::string refusal(const std::string& bytes) const {
        return refusal(bytes, [](const std::string& path) { read_gguf(path); });
    }
    std::string refusal(const GgufWriter& file) const { return refusal(file.bytes()); }

    // The message for a model that is valid but for one change.
    template <class Change>
    std::string refusal_after(Change change, const GgufModelOptions& options = {}) const {
        GgufWriter file = small_gguf(options);
        change(file);
        return refusal(file);
    }

    TemporaryDirectory directory_;
};

TEST_F(Gguf, MetadataOfEveryTypeAreRead) {
    for (const std::uint32_t version : {2U, 3U}) {
        GgufWriter writer;
        writer.version = version;
        writer.set("u8", std::uint8_t{200});
        writer.set("i8", std::int8_t{-100});
        writer.set("u16", std::uint16_t{60000});
        writer.set("i16", std::int16_t{-30000});
        writer.set("u32", std::uint32_t{4000000000});
        writer.set("i32", std::int32_t{-2000000000});
        writer.set("u64", std::uint64_t{1} << 62U);
        writer.set("i64", std::int64_t{-1} << 40U);
        writer.set("f32", 0.1F);
        writer.set("f64", 0.1);
        writer.set("yes", true);
        writer.set("no", false);
        writer.set("text", std::string_view("h\xc3\xa9llo"));
        writer.set("floats", std::vector<float>{1, 2.5F});
        writer.set("int32s", std::vector<std::int32_t>{-1, 7});
        writer.set("strings", std::vector<std::string>{"a", "", "bcd"});
        writer.set("no strings", std::vector<std::string>{});
        // [[1, 2], [], [3]] of bytes, twice
        const std::string nested = GgufWriter::array(GgufTypes::array, 3,
                                                     GgufWriter::array(GgufTypes::uint8, 2, "\1\2") +
                                                         GgufWriter::array(GgufTypes::uint8, 0, "") +
                                                         GgufWriter::array(GgufTypes::uint8, 1, "\3"));
        writer.set_bytes("nested", GgufTypes::array, GgufWriter::array(GgufTypes::array, 2, nested + nested));
        writer.set("last", std::uint8_t{1});

        const GgufFile file(write(writer.bytes()));
        EXPECT_EQ(file.version(), static_cast<int>(version));
        EXPECT_EQ(file.find_integer("u8"), 200);
        EXPECT_EQ(file.find_integer("i8"), -100);
        EXPECT_EQ(file.find_integer("u16"), 60000);
        EXPECT_EQ(file.find_integer("i16"), -30000);
        EXPECT_EQ(file.find_integer("u32"), 4000000000);
        EXPECT_EQ(file.find_integer("i32"), -2000000000);
        EXPECT_EQ(file.find_integer("u64"), Index{1} << 62);
        EXPECT_EQ(file.find_integer("i64"), -(Index{1} << 40));
        EXPECT_EQ(file.find_number("f32"), 0.1F);
        EXPECT_EQ(file.find_number("f64"), 0.1);
        EXPECT_EQ(file.find_flag("yes"), true);
        EXPECT_EQ(file.find_flag("no"), false);
        EXPECT_EQ(file.find_string("text"), "h\xc3\xa9llo");
        EXPECT_THAT(file.find_floats("floats").value(), ElementsAre(1, 2.5F));
        EXPECT_THAT(file.find_int32s("int32s").value(), ElementsAre(-1, 7));
        EXPECT_THAT(file.find_strings("strings").value(), ElementsAre("a", "", "bcd"));
        EXPECT_TRUE(file.find_strings("no strings").value().empty());
        EXPECT_EQ(file.find_integer("last"), 1) << "after nested arrays";
        EXPECT_FALSE(file.find_integer("absent"));
        EXPECT_FALSE(file.find_strings("absent"));
        EXPECT_EQ(file.find_tensor("absent"), nullptr);
    }
}

TEST_F(Gguf, AValueOfAnotherTypeIsRefusedByItsKey) {
    GgufWriter writer;
    writer.set("text", std::string_view("x"));
    writer.set("number", std::uint32_t{1});
    writer.set("large", std::numeric_limits<std::uint64_t>::max());
    writer.set("floats", std::vector<float>{1});
    writer.set_bytes("flag", GgufTypes::boolean, "\2");
    const auto message = [&](auto find) {
        return refusal(writer.bytes(), [&](const std::string& path) { find(GgufFile(path)); });
    };
    EXPECT_EQ(message([](const GgufFile& f) { f.find_integer("text"); }), "text is STRING, must be an integer");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_number("number"); }),
              "number is UINT32, must be FLOAT32 or FLOAT64");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_string("number"); }), "number is UINT32, must be STRING");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_flag("number"); }), "number is UINT32, must be BOOL");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_strings("floats"); }),
              "floats is an array of FLOAT32, must be an array of STRING");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_int32s("number"); }),
              "number is UINT32, must be an array of INT32");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_integer("large"); }),
              "large is 18446744073709551615, must be below 2^63");
    EXPECT_EQ(message([](const GgufFile& f) { f.find_flag("flag"); }), "flag is 2, must be 0 or 1");
}

TEST_F(Gguf, OtherFormatsAreNamed) {
    GgufWriter file = small_gguf();
    file.magic = "GGML";
    EXPECT_THAT(refusal(file), HasSubstr("not a GGUF file"));
    file.magic = "GGUF";
    file.version = 1;
    EXPECT_EQ(refusal(file), "version 1 of GGUF is not supported, only 2 and 3 are");
    file.version = 4;
    EXPECT_EQ(refusal(file), "version 4 of GGUF is not supported, only 2 and 3 are");
    file.version = 0;
    EXPECT_EQ(refusal(file), "version 0 of GGUF is not supported, only 2 and 3 are");
    file.version = 0x03000000;
    EXPECT_THAT(refusal(file), HasSubstr("a big-endian GGUF file"));
}

TEST_F(Gguf, AFileCutAnywhereIsRefused) {
    const GgufWriter writer = small_gguf({.bias = true, .layers = 1});
    const std::string file = writer.bytes();
    ASSERT_EQ(refusal(file), "accepted");
    for (std::size_t size = 1; size < file.size(); size += size < writer.header().size() + 64 ? 1 : 61) {
        ASSERT_NE(refusal(file.substr(0, size)), "accepted") << "the first " << size << " bytes";
    }
    EXPECT_THAT(refusal(file.substr(0, 100)), HasSubstr("the file ends inside"));
    EXPECT_THAT(refusal(file.substr(0, file.size() - 1)), HasSubstr("truncated: output.weight takes 448 bytes"));
}

TEST_F(Gguf, AbsurdCountsAreRefusedBeforeAnythingIsAllocated) {
    for (const std::uint64_t count : {std::uint64_t{1} << 60U, std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
        const auto patched = [&](std::size_t at) {
            return small_gguf().bytes().replace(at, sizeof count, bytes_of(count));
        };
        const std::string text = std::to_string(count);
        EXPECT_THAT(refusal(patched(8)), HasSubstr(text)) << "tensors";
        EXPECT_THAT(refusal(patched(16)), HasSubstr(text)) << "keys";
        EXPECT_THAT(refusal(patched(24)), HasSubstr(text)) << "length of a key";
        const auto with_value = [&](std::uint32_t type, const std::string& value) {
            return refusal_after([&](GgufWriter& file) { file.set_bytes("x", type, value); });
        };
        EXPECT_THAT(with_value(GgufTypes::string, bytes_of(count)), HasSubstr("the value of x: it asks for " + text));
        for (std::uint32_t type = 0; type <= GgufTypes::float64; ++type) {
            EXPECT_THAT(with_value(GgufTypes::array, GgufWriter::array(type, count, "")),
                        HasSubstr("the value of x: it asks for " + text))
                << "an array of type " << type;
        }
    }
    // As many as the file has bytes.
    EXPECT_THAT(refusal(small_gguf().bytes().replace(8, 8, bytes_of(std::uint64_t{1000}))), HasSubstr("ends inside"));
}

TEST_F(Gguf, MetadataThatMakeNoSenseAreRefused) {
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.set_bytes("x", 13, ""); }),
              "the type of x is 13, must be 0 to 12");
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.entries.push_back(file.entries[0]); }),
              "the key general.architecture occurs twice");
    EXPECT_EQ(refusal_after([](GgufWriter& file) {
                  std::string nested = GgufWriter::array(GgufTypes::uint8, 0, "");
                  for (int i = 0; i < 100; ++i) nested = GgufWriter::array(GgufTypes::array, 1, nested);
                  file.set_bytes("x", GgufTypes::array, nested);
              }),
              "the arrays of x are nested deeper than 8 levels");
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.set_bytes("a\nb\x1b[31m", 99, ""); }),
              "the type of a?b?[31m is 99, must be 0 to 12");
    for (const std::uint32_t alignment : {0U, 3U, 48U, 1U << 31U}) {
        EXPECT_THAT(refusal_after([&](GgufWriter& file) { file.set("general.alignment", alignment); }),
                    HasSubstr("general.alignment is " + std::to_string(alignment) + ", must be a power of two"));
    }
}

TEST_F(Gguf, ATensorTableThatMakesNoSenseIsRefused) {
    const auto with = [&](auto change) {
        return refusal_after([&](GgufWriter& file) { change(file.tensor("blk.0.attn_q.weight")); });
    };
    using Tensor = GgufWriter::Tensor;
    EXPECT_THAT(with([](Tensor& t) { t.offset += 16; }), HasSubstr("must be a multiple of 32"));
    EXPECT_THAT(with([](Tensor& t) { t.offset = std::uint64_t{1} << 40U; }), HasSubstr("truncated: blk.0.attn_q"));
    EXPECT_THAT(with([](Tensor& t) { t.offset = ~std::uint64_t{31}; }), HasSubstr("truncated: blk.0.attn_q"));
    EXPECT_THAT(with([](Tensor& t) { t.offset -= 32; }), HasSubstr("attn_norm.weight and blk.0.attn_q.weight overlap"));
    EXPECT_THAT(with([](Tensor& t) { t.offset = 0; }), HasSubstr(" overlap"));
    EXPECT_THAT(with([](Tensor& t) { t.shape = {}; }), HasSubstr("has 0 dimensions, must be 1 to 4"));
    EXPECT_THAT(with([](Tensor& t) { t.shape = {1, 1, 1, 1, 1}; }), HasSubstr("has 5 dimensions, must be 1 to 4"));
    EXPECT_THAT(with([](Tensor& t) { t.shape = {0, 16}; }), HasSubstr("dimension 0 of blk.0.attn_q.weight is 0"));
    EXPECT_THAT(with([](Tensor& t) { t.shape[1] = ~std::uint64_t{0}; }), HasSubstr("dimension 1 of blk.0.attn_q"));
    for (const unsigned bits : {16U, 31U, 32U, 33U, 62U}) {
        const std::uint64_t size = std::uint64_t{1} << bits;
        EXPECT_THAT(with([&](Tensor& t) { t.shape = {size, size, size, size}; }), HasSubstr("than the file can hold"));
    }
    EXPECT_THAT(with([](Tensor& t) { t.shape = {16, 1600}; }), HasSubstr("truncated: blk.0.attn_q.weight takes"));
    EXPECT_THAT(with([](Tensor& t) { t.type = test::ggml_type(WeightType::q4_k); }),
                HasSubstr("has 16 columns, must be a multiple of 256, the block of Q4_K"));
    EXPECT_THAT(with([](Tensor& t) { t.name = "output.weight"; }), HasSubstr("output.weight occurs twice"));
    EXPECT_THAT(with([](Tensor& t) { t.type = 13; }),
                HasSubstr("blk.0.attn_q.weight is Q5_K; F32, F16, BF16, Q8_0, Q4_0, Q4_K and Q6_K are supported"));
    EXPECT_THAT(with([](Tensor& t) { t.type = 1000; }),
                HasSubstr("blk.0.attn_q.weight is of the unknown type 1000; F32"));
}

TEST_F(Gguf, EditedFilesAreReadOrRefused) {
    const std::string valid = small_gguf().bytes();
    const std::size_t header = small_gguf().header().size();
    std::mt19937 random(1);
    for (int i = 0; i < 500; ++i) {
        std::string file = valid;
        for (int edits = 0; edits < 3; ++edits) file[random() % header] = static_cast<char>(random());
        refusal(file);
        refusal(file, [](const std::string& path) { read_gguf_vocabulary(path); });
    }
}

// ---- Models ----

// The values of a matrix in the file, checked against what the file was made of.
void expect_matrix(const Weights& matrix, const GgufWriter::Tensor& tensor, Index rows, Index columns) {
    SCOPED_TRACE(tensor.name);
    ASSERT_EQ(matrix.rows, rows);
    ASSERT_EQ(matrix.columns, columns);
    ASSERT_EQ(test::ggml_type(matrix.type), tensor.type);
    const NaiveRow naive(matrix.type, tensor.data);
    for (Index r = 0; r < rows; ++r) {
        const std::vector<float> row = dequantized(matrix, r);
        for (Index i = 0; i < columns; ++i) {
            ASSERT_EQ(row[static_cast<std::size_t>(i)],
                      static_cast<float>(naive.at(static_cast<std::size_t>(r * columns + i))))
                << "row " << r << ", column " << i;
        }
    }
}

void expect_vector(const float* values, const GgufWriter::Tensor& tensor, WeightType type) {
    ASSERT_NE(values, nullptr) << tensor.name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(values) % 64, 0U) << tensor.name;
    const NaiveRow naive(type, tensor.data);
    for (std::size_t i = 0; i < tensor.shape[0]; ++i) {
        ASSERT_EQ(values[i], static_cast<float>(naive.at(i))) << tensor.name << ", number " << i;
    }
}

void expect_model(const Checkpoint& checkpoint, GgufWriter file) {
    const Config& c = checkpoint.config;
    const auto f32 = WeightType::f32;
    expect_matrix(checkpoint.embedding, file.tensor("token_embd.weight"), c.vocabulary, c.dim);
    expect_matrix(checkpoint.classifier, file.tensor(c.shared_classifier ? "token_embd.weight" : "output.weight"),
                  c.vocabulary, c.dim);
    expect_vector(checkpoint.final_norm, file.tensor("output_norm.weight"), f32);
    ASSERT_EQ(static_cast<Index>(checkpoint.layers.size()), c.layers);
    for (std::size_t l = 0; l < checkpoint.layers.size(); ++l) {
        const LayerWeights& layer = checkpoint.layers[l];
        const auto tensor = [&](const char* name) { return file.tensor("blk." + std::to_string(l) + "." + name); };
        expect_vector(layer.attention_norm, tensor("attn_norm.weight"), f32);
        expect_vector(layer.ffn_norm, tensor("ffn_norm.weight"), f32);
        expect_matrix(layer.wq, tensor("attn_q.weight"), c.query_dim(), c.dim);
        expect_matrix(layer.wk, tensor("attn_k.weight"), c.kv_dim(), c.dim);
        expect_matrix(layer.wv, tensor("attn_v.weight"), c.kv_dim(), c.dim);
        expect_matrix(layer.wo, tensor("attn_output.weight"), c.dim, c.query_dim());
        expect_matrix(layer.gate, tensor("ffn_gate.weight"), c.hidden, c.dim);
        expect_matrix(layer.down, tensor("ffn_down.weight"), c.dim, c.hidden);
        expect_matrix(layer.up, tensor("ffn_up.weight"), c.hidden, c.dim);
        if (!c.attention_bias) {
            EXPECT_EQ(layer.q_bias, nullptr);
            continue;
        }
        expect_vector(layer.q_bias, tensor("attn_q.bias"), f32);
        expect_vector(layer.k_bias, tensor("attn_k.bias"), f32);
        expect_vector(layer.v_bias, tensor("attn_v.bias"), f32);
    }
}

TEST_F(Gguf, AModelOfEachTypeOfWeights) {
    for (const WeightType type : all_types) {
        for (const std::uint32_t version : {2U, 3U}) {
            const bool wide = format_of(type).block > 1;
            GgufWriter file = small_gguf({.type = type, .dim = wide ? 256U : 16U, .hidden = wide ? 512U : 24U});
            file.version = version;
            const Checkpoint checkpoint = read_gguf(write(file.bytes()));
            EXPECT_EQ(checkpoint.format, "GGUF " + std::to_string(version) + ", " + format_of(type).name);
            expect_model(checkpoint, file);
            ASSERT_EQ(checkpoint.files.size(), 1U);
            const auto mapped = checkpoint.files[0].bytes();
            EXPECT_TRUE(checkpoint.layers[0].down.data > mapped.data() &&
                        checkpoint.layers[0].down.data < mapped.data() + mapped.size())
                << format_of(type).name << ": matrices are used in place";
        }
    }
}

TEST_F(Gguf, TheConfigIsThatOfTheKeys) {
    GgufWriter file = small_gguf();
    file.set("tokenizer.ggml.eot_token_id", std::uint32_t{5});
    file.set("tokenizer.ggml.eom_token_id", std::uint64_t{2});
    file.set("llama.rope.freq_base", 500000.0F);
    file.set("llama.attention.sliding_window", std::uint32_t{32});
    const std::string path = write(file.bytes());
    for (const Config& c : {read_gguf_config(path), read_gguf(path).config}) {
        EXPECT_EQ(c.dim, 16);
        EXPECT_EQ(c.hidden, 24);
        EXPECT_EQ(c.layers, 2);
        EXPECT_EQ(c.heads, 4);
        EXPECT_EQ(c.kv_heads, 2);
        EXPECT_EQ(c.head_dim, 4);
        EXPECT_EQ(c.vocabulary, 7);
        EXPECT_EQ(c.context, 64);
        EXPECT_EQ(c.sliding_window, 32);
        EXPECT_EQ(c.norm_epsilon, 1e-6F);
        EXPECT_EQ(c.rope_base, 500000);
        EXPECT_EQ(c.rope_pairing, freqkv::RopePairing::adjacent);
        EXPECT_EQ(c.rope_scaling.type, RopeScaling::Type::none);
        EXPECT_TRUE(c.rope_scaling.divisors.empty());
        EXPECT_FALSE(c.shared_classifier);
        EXPECT_FALSE(c.attention_bias);
        EXPECT_EQ(c.begin_of_text, 1);
        EXPECT_THAT(c.end_of_text, ElementsAre(2, 5));
    }
    file.remove("llama.attention.head_count_kv");
    file.remove("tokenizer.ggml.bos_token_id");
    const Config c = read_gguf_config(write(file.bytes()));
    EXPECT_EQ(c.kv_heads, 4) << "as many as query heads where the file does not say";
    EXPECT_EQ(c.begin_of_text, -1);
}

TEST_F(Gguf, AnEmbeddingThatIsTheClassifierToo) {
    const GgufWriter file = small_gguf({.tied = true});
    const Checkpoint checkpoint = read_gguf(write(file.bytes()));
    EXPECT_TRUE(checkpoint.config.shared_classifier);
    EXPECT_EQ(checkpoint.classifier.data, checkpoint.embedding.data);
    expect_model(checkpoint, file);
}

TEST_F(Gguf, QwenHasBiasesAndTurnsHalves) {
    const GgufWriter file = small_gguf({.architecture = "qwen2", .bias = true});
    const Checkpoint checkpoint = read_gguf(write(file.bytes()));
    EXPECT_TRUE(checkpoint.config.attention_bias);
    EXPECT_EQ(checkpoint.config.rope_pairing, freqkv::RopePairing::half_split);
    expect_model(checkpoint, file);
}

TEST_F(Gguf, HeadsNeedNotMakeUpTheWidth) {
    GgufWriter file = small_gguf();
    std::uint32_t seed = 3;
    for (const char* const key : {"attention.key_length", "attention.value_length", "rope.dimension_count"}) {
        file.set(std::string("llama.") + key, std::uint32_t{8});
    }
    const std::vector<GgufWriter::Tensor> tensors = std::move(file.tensors);
    file.tensors.clear();
    for (GgufWriter::Tensor tensor : tensors) {
        const bool is_query_or_value = tensor.name.ends_with("attn_q.weight") ||
                                       tensor.name.ends_with("attn_k.weight") || tensor.name.ends_with("attn_v.weight");
        if (is_query_or_value) tensor.shape[1] *= 2;
        if (tensor.name.ends_with("attn_output.weight")) tensor.shape[0] *= 2;
        const std::uint64_t count = tensor.shape[0] * (tensor.shape.size() > 1 ? tensor.shape[1] : 1);
        file.add(tensor.name, WeightType::f32, tensor.shape, test::tensor_data(WeightType::f32, count, seed));
    }
    const Checkpoint checkpoint = read_gguf(write(file.bytes()));
    EXPECT_EQ(checkpoint.config.head_dim, 8);
    EXPECT_EQ(checkpoint.layers[1].wo.columns, 32);
    expect_model(checkpoint, file);
}

TEST_F(Gguf, NumbersAtOddAddressesAreCopied) {
    for (const WeightType type : {WeightType::f32, WeightType::f16, WeightType::bf16}) {
        GgufWriter file = small_gguf({.type = type, .bias = true});
        file.alignment = 1;
        file.set("general.alignment", std::uint32_t{1});
        const std::size_t begin = file.header().size();
        for (GgufWriter::Tensor& tensor : file.tensors) tensor.offset += begin % 2 == 0 ? 1 : 0;
        const std::string path = write(file.bytes());
        const Checkpoint checkpoint = read_gguf(path);
        for (const LayerWeights& layer : checkpoint.layers) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(layer.wq.data) % 4, 0U) << format_of(type).name;
        }
        expect_model(checkpoint, file);
    }
}

TEST_F(Gguf, NormsOfAnyTypeBecomeFloats) {
    GgufWriter file = small_gguf();
    GgufWriter::Tensor& norm = file.tensor("blk.1.ffn_norm.weight");
    norm.type = test::ggml_type(WeightType::f16);
    norm.data = random_row(WeightType::f16, 16, 1);
    const Checkpoint checkpoint = read_gguf(write(file.bytes()));
    expect_vector(checkpoint.layers[1].ffn_norm, norm, WeightType::f16);
}

TEST_F(Gguf, ListedRotaryDivisorsBelongToTheConfig) {
    GgufWriter file = small_gguf();
    file.add("rope_freqs.weight", WeightType::f32, {2}, bytes_of(std::vector<float>{1, 8}));
    const std::string path = write(file.bytes());
    EXPECT_THAT(read_gguf_config(path).rope_scaling.divisors, ElementsAre(1, 8));
    EXPECT_THAT(read_gguf(path).config.rope_scaling.divisors, ElementsAre(1, 8));
    file.tensor("rope_freqs.weight").data = bytes_of(std::vector<float>{1, 0});
    EXPECT_THAT(refusal(file), HasSubstr("must be positive and finite"));
}

TEST_F(Gguf, RotaryScaling) {
    const auto scaling = [&](auto... keys) {
        GgufWriter file = small_gguf();
        (file.set(std::string("llama.rope.") + keys.first, keys.second), ...);
        return read_gguf_config(write(file.bytes())).rope_scaling;
    };
    const auto key = [](const char* name, auto value) { return std::pair(name, value); };
    const auto text = [](const char* value) { return std::pair("scaling.type", std::string_view(value)); };
    using Type = RopeScaling::Type;

    EXPECT_EQ(scaling(text("none"), key("scaling.factor", 4.0F)).type, Type::none);
    RopeScaling linear = scaling(text("linear"), key("scaling.factor", 4.0F));
    EXPECT_EQ(linear.type, Type::linear);
    EXPECT_EQ(linear.factor, 4);
    linear = scaling(key("scale_linear", 2.0F));
    EXPECT_EQ(linear.type, Type::linear) << "the older key";
    EXPECT_EQ(linear.factor, 2);

    RopeScaling yarn = scaling(text("yarn"), key("scaling.factor", 4.0F));
    EXPECT_EQ(yarn.type, Type::yarn);
    EXPECT_EQ(yarn.original_context, 64) << "the context of the model where the file does not say";
    EXPECT_LT(yarn.attention_factor, 0);
    EXPECT_EQ(yarn.beta_fast, 32);
    EXPECT_EQ(yarn.beta_slow, 1);
    yarn = scaling(text("yarn"), key("scaling.factor", 4.0F), key("scaling.original_context_length", std::uint32_t{16}),
                   key("scaling.attn_factor", 0.5F), key("scaling.yarn_beta_fast", 16.0F),
                   key("scaling.yarn_beta_slow", 2.0F));
    EXPECT_EQ(yarn.original_context, 16);
    EXPECT_DOUBLE_EQ(yarn.attention_factor, 0.5 * (1 + 0.1 * std::log(4.0)));
    EXPECT_EQ(yarn.beta_fast, 16);
    EXPECT_EQ(yarn.beta_slow, 2);

    const auto refused = [&](const char* type, const char* name, float value) {
        return refusal_after([&](GgufWriter& file) {
            file.set("llama.rope.scaling.type", std::string_view(type));
            file.set(std::string("llama.rope.scaling.") + name, value);
        });
    };
    EXPECT_EQ(refused("longrope", "factor", 2),
              "llama.rope.scaling.type is longrope; none, linear and yarn are supported");
    EXPECT_THAT(refused("linear", "attn_factor", 2), HasSubstr("must be 1 unless the type is yarn"));
    EXPECT_THAT(refused("yarn", "attn_factor", NAN), HasSubstr("must be positive"));
    EXPECT_THAT(refused("yarn", "yarn_ext_factor", 0.5F), HasSubstr("yarn_ext_factor is 0.5"));
    for (const float factor : {NAN, INFINITY, 0.0F, -1.0F}) {
        EXPECT_THAT(refused("linear", "factor", factor), HasSubstr("must be positive and finite")) << factor;
    }
}

TEST_F(Gguf, HyperparametersThatNoModelHasAreRefused) {
    const auto with = [&](const char* key, auto value) {
        return refusal_after([&](GgufWriter& file) { file.set(std::string("llama.") + key, value); });
    };
    EXPECT_THAT(with("attention.layer_norm_rms_epsilon", NAN), HasSubstr("must be positive and finite"));
    EXPECT_THAT(with("rope.freq_base", INFINITY), HasSubstr("must be positive and finite"));
    EXPECT_THAT(with("block_count", std::uint32_t{0}), HasSubstr("the number of layers is 0"));
    EXPECT_THAT(with("block_count", ~std::uint32_t{0}), HasSubstr("the number of layers is 4294967295"));
    EXPECT_THAT(with("block_count", std::uint32_t{16384}), HasSubstr("blk.2.attn_norm.weight is missing"));
    EXPECT_THAT(with("block_count", std::uint32_t{1}), HasSubstr("blk.1.attn_k.weight belongs to nothing"));
    EXPECT_THAT(with("attention.head_count", std::uint32_t{0}), HasSubstr("the number of heads is 0"));
    EXPECT_THAT(with("attention.head_count", std::int64_t{-4}), HasSubstr("the number of heads is -4"));
    EXPECT_THAT(with("attention.head_count_kv", std::uint32_t{3}), HasSubstr("3 key and value heads"));
    EXPECT_THAT(with("attention.value_length", std::uint32_t{8}),
                HasSubstr("llama.attention.value_length is 8, must be the size of a head, which is 4"));
    EXPECT_THAT(with("rope.dimension_count", std::uint32_t{2}), HasSubstr("rope.dimension_count is 2"));
    EXPECT_THAT(with("embedding_length", std::string_view("16")), HasSubstr("is STRING, must be an integer"));
    EXPECT_THAT(with("embedding_length", std::uint32_t{32}),
                HasSubstr("token_embd.weight is [16, 7], must be [32, 7] (columns first)"));
    EXPECT_THAT(with("expert_count", std::uint32_t{8}), HasSubstr("a mixture of 8 experts"));
    EXPECT_THAT(refusal_after([](GgufWriter& file) { file.set("split.count", std::uint16_t{3}); }),
                HasSubstr("one of 3 parts of a model"));
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.remove("llama.context_length"); }),
              "llama.context_length is missing");
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.remove("general.architecture"); }),
              "general.architecture is missing");
    EXPECT_EQ(refusal_after([](GgufWriter&) {}, {.architecture = "gemma2"}),
              "the architecture is gemma2; llama and qwen2 are supported");
    EXPECT_THAT(refusal_after([](GgufWriter& file) { file.set("tokenizer.ggml.eos_token_id", std::uint32_t{7}); }),
                HasSubstr("tokenizer.ggml.eos_token_id is 7, must be below the size of the vocabulary, which is 7"));
}

TEST_F(Gguf, WeightsThatDoNotFitTheModelAreNamed) {
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.tensor("blk.1.attn_k.weight").shape = {8, 16}; }),
              "the tensor blk.1.attn_k.weight is [8, 16], must be [16, 8] (columns first)");
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.tensor("blk.1.attn_norm.weight").shape = {8}; }),
              "the tensor blk.1.attn_norm.weight is [8], must be [16] (columns first)");
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.tensor("blk.0.ffn_up.weight").shape = {16, 12, 2}; }),
              "the tensor blk.0.ffn_up.weight is [16, 12, 2], must be [16, 24] (columns first)");
    for (const char* const name : {"token_embd.weight", "blk.1.ffn_down.weight", "output_norm.weight"}) {
        EXPECT_EQ(refusal_after([&](GgufWriter& file) { file.remove_tensor(name); }),
                  std::string("the tensor ") + name + " is missing");
    }
    EXPECT_THAT(refusal_after([](GgufWriter& file) { file.remove_tensor("blk.1.attn_v.bias"); },
                              {.architecture = "qwen2", .bias = true}),
                HasSubstr("blk.1.attn_v.bias is missing"));
    EXPECT_EQ(refusal_after([](GgufWriter& file) {
                  file.add("blk.0.attn_output.bias", WeightType::f32, {16}, std::string(64, '\0'));
              }),
              "the tensor blk.0.attn_output.bias belongs to nothing that is supported");
    EXPECT_EQ(refusal_after([](GgufWriter& file) {
                  file.add("blk.0.attn_rot_embd.weight", WeightType::f32, {2}, std::string(8, '\0'));
              }),
              "accepted");
}

TEST_F(Gguf, TheVocabularyIsThatOfTheFile) {
    GgufWriter file = small_gguf();
    GgufVocabulary vocabulary = read_gguf_vocabulary(write(file.bytes()));
    EXPECT_EQ(vocabulary.model, "llama");
    EXPECT_EQ(vocabulary.pre, "");
    EXPECT_THAT(vocabulary.tokens, ElementsAre("t0", "t1", "t2", "t3", "t4", "t5", "t6"));
    EXPECT_THAT(vocabulary.scores, testing::Each(-1.5F));
    EXPECT_EQ(vocabulary.scores.size(), 7U);
    EXPECT_THAT(vocabulary.types, testing::Each(1));
    EXPECT_EQ(vocabulary.types.size(), 7U);
    EXPECT_TRUE(vocabulary.merges.empty());
    EXPECT_EQ(vocabulary.bos, 1);
    EXPECT_EQ(vocabulary.eos, 2);
    EXPECT_FALSE(vocabulary.add_bos.has_value());
    EXPECT_FALSE(vocabulary.add_space_prefix.has_value());

    file.set("tokenizer.ggml.model", std::string_view("gpt2"));
    file.set("tokenizer.ggml.pre", std::string_view("llama-bpe"));
    file.set("tokenizer.ggml.merges", std::vector<std::string>{"t 0", "t 1"});
    file.set("tokenizer.ggml.add_bos_token", true);
    file.set("tokenizer.ggml.add_space_prefix", false);
    for (const char* const key : {"scores", "token_type", "bos_token_id", "eos_token_id"}) {
        file.remove(std::string("tokenizer.ggml.") + key);
    }
    vocabulary = read_gguf_vocabulary(write(file.bytes()));
    EXPECT_EQ(vocabulary.model, "gpt2");
    EXPECT_EQ(vocabulary.pre, "llama-bpe");
    EXPECT_THAT(vocabulary.merges, ElementsAre("t 0", "t 1"));
    EXPECT_TRUE(vocabulary.scores.empty());
    EXPECT_TRUE(vocabulary.types.empty());
    EXPECT_EQ(vocabulary.bos, -1);
    EXPECT_EQ(vocabulary.eos, -1);
    EXPECT_EQ(vocabulary.add_bos, true);
    EXPECT_EQ(vocabulary.add_space_prefix, false);

    const auto with = [&](auto change) {
        GgufWriter broken = small_gguf();
        change(broken);
        return refusal(broken.bytes(), [](const std::string& path) { read_gguf_vocabulary(path); });
    };
    EXPECT_EQ(with([](GgufWriter& f) { f.remove("tokenizer.ggml.model"); }), "tokenizer.ggml.model is missing");
    EXPECT_EQ(with([](GgufWriter& f) { f.remove("tokenizer.ggml.tokens"); }), "tokenizer.ggml.tokens is missing");
    EXPECT_EQ(with([](GgufWriter& f) { f.set("tokenizer.ggml.scores", std::vector<float>{1}); }),
              "tokenizer.ggml.scores has 1 elements, must have one for each of the 7 tokens");
    EXPECT_THAT(with([](GgufWriter& f) { f.set("tokenizer.ggml.bos_token_id", std::int32_t{-2}); }),
                HasSubstr("tokenizer.ggml.bos_token_id is -2"));
}

}  // namespace
}  // namespace llama
