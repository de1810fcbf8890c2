// SPDX-License-Identifier: MIT
#include "llama/formats/safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/hugging_face_files.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::make_safetensors;
using test::TemporaryDirectory;
using test::TestTensors;
using test::with_header;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const std::string& content) {
    const TemporaryDirectory directory;
    return test::refusal_of([&] { read_safetensors(directory.write("x.safetensors", content)); });
}

std::string refusal(const std::string& entry, const std::string& data) {
    return refusal(with_header(R"({"w":)" + entry + "}", data));
}

TEST(Safetensors, ATensorIsWhereTheHeaderSays) {
    const TemporaryDirectory directory;
    TestTensors tensors;
    tensors["a"] = {"F32", {2, 3}, {1, 2, 3, 4, 5, 6}};
    tensors["b"] = {"BF16", {2}, {-1, 0.5}};
    tensors["nothing"] = {"F16", {0, 5}, {}};
    const TensorFile file = read_safetensors(directory.write("x", make_safetensors(tensors)));
    ASSERT_EQ(file.tensors.size(), 3u);
    const StoredTensor& a = file.tensors.at("a");
    EXPECT_EQ(a.type, "F32");
    EXPECT_THAT(a.shape, ElementsAre(2, 3));
    float last = 0;
    ASSERT_EQ(a.bytes.size(), 24u);
    std::memcpy(&last, &a.bytes[20], 4);
    EXPECT_EQ(last, 6);
    EXPECT_EQ(file.tensors.at("b").bytes.size(), 4u);
    EXPECT_EQ(file.tensors.at("nothing").bytes.size(), 0u);
}

TEST(Safetensors, TypesThatNobodyUsesAreNoError) {
    EXPECT_EQ(refusal(R"({"dtype":"I64","shape":[1],"data_offsets":[0,8]})", std::string(8, 'x')), "accepted");
    EXPECT_EQ(refusal(R"({"dtype":"F8_E9M9","shape":[3],"data_offsets":[0,8]})", std::string(8, 'x')), "accepted");
}

TEST(Safetensors, MetadataAreTexts) {
    const TemporaryDirectory directory;
    write_safetensors(directory / "x", {}, {}, {{"name", "a \"value\""}, {"empty", ""}});
    const std::map<std::string, std::string> expected = {{"name", "a \"value\""}, {"empty", ""}, {"format", "pt"}};
    EXPECT_EQ(read_safetensors(directory / "x").metadata, expected);
    EXPECT_EQ(refusal(with_header("{}", "")), "accepted");
    EXPECT_THAT(refusal(with_header(R"({"__metadata__":[]})", "")), HasSubstr("__metadata__ is no object"));
    EXPECT_THAT(refusal(with_header(R"({"__metadata__":{"a":1}})", "")), HasSubstr("no string for \"a\""));
}

TEST(Safetensors, AFileCutAnywhereIsRefused) {
    TestTensors tensors;
    tensors["a"] = {"F32", {2, 3}, {1, 2, 3, 4, 5, 6}};
    tensors["b"] = {"F16", {2}, {1, 2}};
    const std::string whole = make_safetensors(tensors);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size << " of " << whole.size() << " bytes";
    }
    EXPECT_THAT(refusal(whole + "x"), HasSubstr("the tensors have 28 bytes, the file has 29"));
}

TEST(Safetensors, TensorsFillTheFileWithoutOverlapsAndHoles) {
    const auto two = [](const std::string& first, const std::string& second) {
        return refusal(with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
                                       R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + second + "}}",
                                   std::string(16, 'x')));
    };
    EXPECT_EQ(two("[0,8]", "[8,16]"), "accepted");
    EXPECT_EQ(two("[8,16]", "[0,8]"), "accepted");
    EXPECT_THAT(two("[0,8]", "[4,12]"), HasSubstr("\"b\" begins at byte 4 of the data, must be 8"));
    EXPECT_THAT(two("[0,8]", "[0,8]"), HasSubstr("begins at byte 0 of the data, must be 8"));
    EXPECT_THAT(two("[4,12]", "[8,16]"), HasSubstr("\"a\" begins at byte 4 of the data, must be 0"));
    EXPECT_THAT(two("[0,8]", "[9,17]"), HasSubstr("data_offsets 9 and 17"));
}

TEST(Safetensors, OffsetsAreCheckedBeforeTheyAreUsed) {
    const std::string data(8, 'x');
    for (const char* const offsets :
         {"[8,0]", "[-1,8]", "[0,18446744073709551615]", "[9223372036854775807,8]", "[0,1e1]", "[0.0,8]", "[\"0\",8]",
          "[0]", "[0,4,8]", "8", "null", "[null,null]"}) {
        EXPECT_THAT(refusal(R"({"dtype":"F32","shape":[2],"data_offsets":)" + std::string(offsets) + "}", data),
                    AllOf(HasSubstr("tensor \"w\""), HasSubstr("data_offsets")))
            << offsets;
    }
}

TEST(Safetensors, ShapesAreAsLargeAsTheirBytes) {
    const std::string data(8, 'x');
    for (const char* const shape : {"[3]", "[1]", "[]", "[4294967296,4294967296]", "[9223372036854775807,2]",
                                    "[2,9223372036854775807,0]", "[-2]", "[2.0]", "[\"2\"]", "[[2]]", "2", "null"}) {
        EXPECT_THAT(refusal(R"({"dtype":"F32","data_offsets":[0,8],"shape":)" + std::string(shape) + "}", data),
                    AllOf(HasSubstr("tensor \"w\""), HasSubstr("shape")))
            << shape;
    }
}

TEST(Safetensors, HeadersOfAnotherShapeAreRefused) {
    EXPECT_THAT(refusal(with_header("[]", "")), HasSubstr("no JSON object"));
    EXPECT_THAT(refusal(with_header("", "")), HasSubstr("JSON"));
    EXPECT_THAT(refusal(with_header("{\"a\":1}", "")), HasSubstr("tensor \"a\" has no dtype"));
    EXPECT_THAT(refusal(with_header("{\"a\n\":1}", "")), HasSubstr("JSON"));
    EXPECT_THAT(refusal(with_header(R"({"a\n":1})", "")), HasSubstr("tensor \"a\\x0a\""));
    EXPECT_THAT(refusal(with_header(std::string(100000, '['), "")), HasSubstr("nested deeper"));
    const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
    EXPECT_THAT(refusal(with_header("{\"a\":" + tensor + ",\"a\":" + tensor + "}", "1234")), HasSubstr("\"a\" twice"));
}

TEST(Safetensors, TheHeaderIsAsLongAsTheFileAtMost) {
    for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{100'000'001},
                                       std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63}) {
        EXPECT_THAT(refusal(test::to_bytes(length) + "{}"),
                    HasSubstr("the header's length is " + std::to_string(length)));
    }
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
    const TemporaryDirectory directory;
    const std::vector<float> odd{1, 2, 3};
    const std::vector<float> matrix{1, -2, 0.5, 65504};
    const TensorToWrite tensors[] = {{"odd", {3}, weights(odd.data(), 1, 3), WeightType::bf16},
                                     {"half", {2, 2}, weights(matrix.data(), 2, 2), WeightType::f16},
                                     {"same", {2, 2}, weights(matrix.data(), 2, 2)}};
    Index last = 0;
    write_safetensors(directory / "x", tensors, [&](Index written, Index total) {
        EXPECT_EQ(total, 6 + 8 + 16);
        last = written;
    });
    EXPECT_EQ(last, 30);
    EXPECT_THAT(directory.names(), ElementsAre("x"));
    const TensorFile file = read_safetensors(directory / "x");
    EXPECT_THAT(test::read_text(directory / "x"), HasSubstr(R"({"__metadata__":{"format":"pt"})"));
    EXPECT_EQ(file.tensors.at("odd").type, "BF16");
    EXPECT_THAT(file.tensors.at("odd").shape, ElementsAre(3));
    EXPECT_EQ(file.tensors.at("same").type, "F32");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.tensors.at("same").bytes.data()) % 4, 0u)
        << "a reader would have to copy it";
    std::vector<float> read(4);
    to_floats(file.tensors.at("half").bytes.data(), WeightType::f16, 4, read.data());
    EXPECT_EQ(read, matrix);
}

TEST(Safetensors, NumbersAreRoundedToTheNearestToEven) {
    // BF16 has 8 significant bits, F16 has 11.
    const float values[] = {1 + 0x1p-8F, 1 + 0x3p-8F, 1 + 0x1p-11F, 1 + 0x3p-11F, 65519.0F, -0x1p-25F};
    std::byte stored[sizeof values];
    float read[6];
    from_floats(values, WeightType::bf16, 2, stored);
    to_floats(stored, WeightType::bf16, 2, read);
    EXPECT_EQ(read[0], 1);
    EXPECT_EQ(read[1], 1 + 0x4p-8F);
    from_floats(values, WeightType::f16, 6, stored);
    to_floats(stored, WeightType::f16, 6, read);
    EXPECT_EQ(read[2], 1);
    EXPECT_EQ(read[3], 1 + 0x4p-11F);
    EXPECT_EQ(read[4], 65504);
    EXPECT_EQ(read[5], 0);
}

TEST(Safetensors, AWriterThatGivesUpLeavesNothingBehind) {
    const TemporaryDirectory directory;
    directory.write("x", "earlier");
    const std::vector<float> values{1, 65520};
    const TensorToWrite tensors[] = {{"w", {2}, weights(values.data(), 1, 2), WeightType::f16}};
    try {
        write_safetensors(directory / "x", tensors);
        FAIL() << "an infinite number was written for a finite one";
    } catch (const FileError& error) {
        EXPECT_THAT(error.what(), AllOf(HasSubstr("tensor \"w\""), HasSubstr("65520"), HasSubstr("F16 ends at 65504")));
    }
    const auto give_up = [](Index, Index) { throw std::runtime_error("interrupted"); };
    const TensorToWrite fine[] = {{"w", {2}, weights(values.data(), 1, 2)}};
    EXPECT_THROW(write_safetensors(directory / "x", fine, give_up), std::runtime_error);
    EXPECT_THAT(directory.names(), ElementsAre("x"));
    EXPECT_EQ(test::read_text(directory / "x"), "earlier");
}

}  // namespace
}  // namespace llama
