// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_parts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/naive_row.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::dequantized;
using test::GgufWriter;
using test::small_gguf;
using testing::HasSubstr;

// The three parts of a small model, which a test changes before they are written.
class GgufParts : public testing::Test {
protected:
    std::string path(std::size_t part) const { return directory_ / name(part); }
    static std::string name(std::size_t part) { return "m-0000" + std::to_string(part + 1) + "-of-00003.gguf"; }

    void write() const {
        for (std::size_t i = 0; i < parts_.size(); ++i) directory_.write(name(i), parts_[i].bytes());
    }

    std::string refusal(std::size_t given = 0) const {
        return test::refusal_of([&] { read_gguf(path(given)); });
    }

    // The parts as they were with one change.
    template <class Change>
    std::string refusal_after(std::size_t part, Change change) {
        const GgufWriter original = parts_[part];
        change(parts_[part]);
        write();
        parts_[part] = original;
        return refusal();
    }

    const GgufWriter whole_ = small_gguf({.bias = true});
    std::vector<GgufWriter> parts_ = test::split(whole_, 3);
    test::TemporaryDirectory directory_;
};

TEST_F(GgufParts, AreTheModelTheyWereSplitFrom) {
    write();
    const GgufFile parts = open_gguf_parts(path(0));
    const GgufFile whole(directory_.write("whole.gguf", whole_.bytes()));
    ASSERT_EQ(parts.tensors().size(), whole.tensors().size());
    for (const auto& [name, tensor] : whole.tensors()) {
        const GgufTensor* const found = parts.find_tensor(name);
        ASSERT_NE(found, nullptr) << name;
        EXPECT_EQ(found->shape, tensor.shape) << name;
        EXPECT_TRUE(std::ranges::equal(found->data, tensor.data)) << name;
    }
    const Checkpoint checkpoint = read_gguf(path(0));
    EXPECT_EQ(checkpoint.files.size(), 3u);
    EXPECT_EQ(checkpoint.config.vocabulary, 7);
    EXPECT_TRUE(checkpoint.config.attention_bias) << "a tensor of the first part";
    EXPECT_FALSE(checkpoint.config.shared_classifier) << "a tensor of the last part";
    EXPECT_EQ(dequantized(checkpoint.classifier, 3), dequantized(read_gguf(directory_ / "whole.gguf").classifier, 3));
    EXPECT_EQ(read_gguf_config(path(0)).layers, 2);
    EXPECT_EQ(read_gguf_vocabulary(path(0)).tokens.size(), 7u);
}

TEST_F(GgufParts, OfOneAreAFileOfAnyName) {
    GgufWriter file = whole_;
    file.set("split.no", std::uint16_t{0});
    file.set("split.count", std::uint16_t{1});
    EXPECT_EQ(read_gguf(directory_.write("any.gguf", file.bytes())).config.layers, 2);
}

TEST_F(GgufParts, AreOpenedByTheFirst) {
    write();
    EXPECT_EQ(refusal(1), path(1) + ": part 2 of 3 of a model; give the first, " + path(0));
    EXPECT_EQ(refusal(2), path(2) + ": part 3 of 3 of a model; give the first, " + path(0));
    std::filesystem::rename(path(0), directory_ / "m.gguf");
    EXPECT_EQ(test::refusal_of([&] { read_gguf(directory_ / "m.gguf"); }),
              directory_ /
                  "m.gguf: part 1 of 3 of a model, whose name must end in -00001-of-00003.gguf for the others "
                  "to be found beside it");
}

TEST_F(GgufParts, ThatAreMissingAreNamed) {
    write();
    std::filesystem::remove(path(1));
    EXPECT_EQ(refusal(), path(1) + ": missing; " + path(0) + " is the first of 3 parts");
    write();
    std::filesystem::remove(path(2));
    EXPECT_EQ(refusal(), path(2) + ": missing; " + path(0) + " is the first of 3 parts");
}

TEST_F(GgufParts, ThatDoNotBelongTogetherAreRefused) {
    const auto u16 = [](int value) { return static_cast<std::uint16_t>(value); };
    using Writer = GgufWriter;
    EXPECT_EQ(refusal_after(1, [&](Writer& part) { part.set("split.no", u16(2)); }),
              path(1) + ": split.no is 2, must be 1 in part 2 of 3");
    EXPECT_EQ(refusal_after(2, [&](Writer& part) { part.set("split.count", u16(4)); }),
              path(2) + ": split.count is 4, must be 3 in part 3 of 3");
    EXPECT_EQ(refusal_after(2, [&](Writer& part) { part.remove("split.count"); }),
              path(2) + ": split.count is missing");
    EXPECT_EQ(refusal_after(0, [&](Writer& part) { part.remove("split.no"); }), path(0) + ": split.no is missing");
    EXPECT_EQ(refusal_after(0, [&](Writer& part) { part.set("split.no", std::int16_t{-1}); }),
              path(0) + ": split.no is -1, must be below split.count, which is 3");
    EXPECT_EQ(refusal_after(0, [&](Writer& part) { part.set("split.count", std::uint32_t{65536}); }),
              path(0) + ": split.count is 65536, must be at most 65535");
    EXPECT_EQ(refusal_after(0, [&](Writer& part) { part.set("split.tensors.count", std::int32_t{1000}); }),
              path(0) + ": split.tensors.count is 1000, but the 3 parts have " + std::to_string(whole_.tensors.size()) +
                  " tensors");
    EXPECT_EQ(refusal_after(0, [&](Writer& part) { part.remove("split.tensors.count"); }),
              path(0) + ": split.tensors.count is missing");
    EXPECT_EQ(refusal_after(2,
                            [&](Writer& part) {
                                const Writer::Tensor& tensor = parts_[1].tensors[0];
                                part.add(tensor.name, tensor.type, tensor.shape, tensor.data);
                            }),
              path(2) + ": the tensor " + parts_[1].tensors[0].name + " is in another part of the model, too");
    EXPECT_THAT(refusal_after(1, [&](Writer& part) { part.magic = "GGML"; }), HasSubstr(path(1) + ": not a GGUF file"));
}

}  // namespace
}  // namespace llama
