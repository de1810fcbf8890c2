// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/gguf_fixture.hpp"
#include "llama/gguf_writer.hpp"

namespace llama {
namespace {

using test::bytes_of;
using test::Gguf;
using test::GgufTypes;
using test::GgufWriter;
using test::small_gguf;
using testing::ElementsAre;
using testing::HasSubstr;

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

TEST_F(Gguf, CountsAreBoundedBeforeTheyTakeMemory) {
    GgufWriter file = small_gguf();
    for (int i = 0; i <= 65536; ++i) file.entries.push_back({std::to_string(i), GgufTypes::uint8, "1"});
    EXPECT_THAT(refusal(file), HasSubstr("keys of metadata, at most 65536 are read"));
    file = small_gguf();
    for (int i = 0; i < 131072; ++i) file.tensors.push_back({std::to_string(i), 0, {1}, "", 0});
    EXPECT_THAT(refusal(file), HasSubstr("tensors, at most 131072 are read"));
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
              "the type of a\\x0ab\\x1b[31m is 99, must be 0 to 12");
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
    for (const auto& [number, name] : {std::pair{9U, "Q8_1"},
                                       {15U, "Q8_K"},
                                       {16U, "IQ2_XXS"},
                                       {29U, "IQ1_M"},
                                       {26U, "I32"},
                                       {35U, "TQ2_0"},
                                       {39U, "MXFP4"},
                                       {40U, "NVFP4"},
                                       {41U, "Q1_0"}}) {
        EXPECT_EQ(with([&](Tensor& t) { t.type = number; }),
                  "the tensor blk.0.attn_q.weight is " + std::string(name) +
                      "; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K and IQ4_XS "
                      "are supported");
    }
    for (const std::uint32_t dropped : {4U, 31U, 38U}) {
        EXPECT_THAT(with([&](Tensor& t) { t.type = dropped; }),
                    HasSubstr("of the unknown type " + std::to_string(dropped)));
    }
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

}  // namespace
}  // namespace llama
