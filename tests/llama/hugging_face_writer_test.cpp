// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/hugging_face_files.hpp"
#include "llama/io/json_file.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::make_safetensors;
using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

class HuggingFaceWriter : public testing::Test {
protected:
    HuggingFaceWriter() {
        std::filesystem::create_directory(directory_ / "model");
        json config = test::small_config();
        config["bos_token_id"] = 3;
        config["eos_token_id"] = {4, 5};
        config["rope_theta"] = 12345.5;
        config["rms_norm_eps"] = 3e-6;
        config["torch_dtype"] = "float32";
        config["something"] = "of its own";
        directory_.write("model/config.json", config.dump());
        directory_.write("model/model.safetensors", make_safetensors(test::small_model()));
        directory_.write("model/tokenizer.json", "{}");
        directory_.write("model/README.md", "not of the model");
        directory_.write("text.model", "a tokenizer");
    }

    Checkpoint model() const { return read_hugging_face(directory_ / "model"); }

    std::string refusal(const Checkpoint& checkpoint, const ModelSource& source = {}) const {
        return test::refusal_of([&] { write_hugging_face(out_, checkpoint, WeightType::f32, source); });
    }

    std::vector<std::string> names_in_out() const {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(out_)) names.push_back(entry.path().filename());
        std::sort(names.begin(), names.end());
        return names;
    }

    TemporaryDirectory directory_;
    std::string out_ = directory_ / "out";
};

// All numbers of a model, in float.
std::vector<float> numbers_of(const Checkpoint& checkpoint) {
    std::vector<float> all;
    Checkpoint view = checkpoint.view();
    for (const NamedWeights& weights : named_weights(view)) {
        if (weights.vector != nullptr) {
            all.insert(all.end(), *weights.vector, *weights.vector + weights.shape[0]);
            continue;
        }
        const std::size_t before = all.size();
        const Index count = weights.shape[0] * weights.shape[1];
        all.resize(before + static_cast<std::size_t>(count));
        to_floats(weights.matrix->data, weights.matrix->type, count, &all[before]);
    }
    return all;
}

TEST_F(HuggingFaceWriter, AModelReadBackIsTheSame) {
    const Checkpoint original = model();
    for (const WeightType type : {WeightType::f32, WeightType::bf16}) {
        const std::string out = directory_ / format_of(type).name;
        write_hugging_face(out, original, type, {.tokenizer = directory_ / "text.model"});
        const Checkpoint read = read_hugging_face(out);
        EXPECT_EQ(numbers_of(read), numbers_of(original)) << "multiples of 1/8 are exact in either type";
        EXPECT_EQ(read.layers[0].wq.type, type);
        EXPECT_EQ(read.config.dim, 8);
        EXPECT_EQ(read.config.hidden, 12);
        EXPECT_EQ(read.config.layers, 2);
        EXPECT_EQ(read.config.heads, 4);
        EXPECT_EQ(read.config.kv_heads, 2);
        EXPECT_EQ(read.config.head_dim, 2);
        EXPECT_EQ(read.config.vocabulary, 10);
        EXPECT_EQ(read.config.context, 64);
        EXPECT_EQ(read.config.rope_base, 12345.5);
        EXPECT_EQ(read.config.norm_epsilon, 3e-6);
        EXPECT_FALSE(read.config.shared_classifier);
        EXPECT_EQ(read.config.begin_of_text, 3);
        EXPECT_THAT(read.config.end_of_text, ElementsAre(4, 5));
        const json config = read_json(out + "/config.json");
        EXPECT_EQ(config["dtype"], type == WeightType::f32 ? "float32" : "bfloat16");
        EXPECT_EQ(config["model_type"], "llama");
        EXPECT_EQ(test::read_text(out + "/tokenizer.model"), "a tokenizer");
        EXPECT_EQ(read_json(out + "/tokenizer_config.json")["add_bos_token"], true);
    }
}

TEST_F(HuggingFaceWriter, TokensThatAModelDoesNotHaveStayAway) {
    Checkpoint checkpoint = model();
    checkpoint.config.begin_of_text = -1;
    checkpoint.config.end_of_text.clear();
    write_hugging_face(out_, checkpoint, WeightType::f32);
    const Config read = read_hugging_face_config(out_);
    EXPECT_EQ(read.begin_of_text, -1);
    EXPECT_TRUE(read.end_of_text.empty()) << "not the defaults of transformers";
}

TEST_F(HuggingFaceWriter, ASharedClassifierIsWrittenOnce) {
    Checkpoint checkpoint = model();
    checkpoint.config.shared_classifier = true;
    checkpoint.classifier = checkpoint.embedding;
    write_hugging_face(out_, checkpoint, WeightType::f32);
    EXPECT_FALSE(open_tensor_files(out_).at(0).tensors.contains("lm_head.weight"));
    const Checkpoint read = read_hugging_face(out_);
    EXPECT_TRUE(read.config.shared_classifier);
    EXPECT_EQ(numbers_of(read), numbers_of(checkpoint));
}

TEST_F(HuggingFaceWriter, WhatStoodBesideTheOriginalComesAlong) {
    write_hugging_face(out_, model(), WeightType::bf16, {.directory = directory_ / "model"});
    EXPECT_THAT(names_in_out(), ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
    const json config = read_json(out_ + "/config.json");
    EXPECT_EQ(config["something"], "of its own");
    EXPECT_EQ(config["torch_dtype"], "bfloat16");
    EXPECT_FALSE(config.contains("dtype"));
}

TEST_F(HuggingFaceWriter, LaterWeightsReplaceEarlierOnes) {
    Checkpoint checkpoint = model();
    write_hugging_face(out_, checkpoint, WeightType::f32);
    const std::vector<float> norm(8, 0.75f);
    checkpoint.final_norm = norm.data();
    write_hugging_face(out_, checkpoint, WeightType::f32);
    EXPECT_EQ(read_hugging_face(out_).final_norm[5], 0.75f);
    EXPECT_THAT(names_in_out(), ElementsAre("config.json", "model.safetensors"));
}

TEST_F(HuggingFaceWriter, EarlierWeightsStandWhenWritingFails) {
    const Checkpoint checkpoint = model();
    write_hugging_face(out_, checkpoint, WeightType::f32);
    const std::string earlier = test::read_text(out_ + "/model.safetensors");
    const auto give_up = [](Index, Index) { throw std::runtime_error("enough"); };
    EXPECT_THROW(write_hugging_face(out_, checkpoint, WeightType::f32, {}, give_up), std::runtime_error);
    EXPECT_EQ(test::read_text(out_ + "/model.safetensors"), earlier);
    EXPECT_THAT(names_in_out(), ElementsAre("config.json", "model.safetensors"));
}

TEST_F(HuggingFaceWriter, AnotherModelIsNotOverwritten) {
    Checkpoint checkpoint = model();
    write_hugging_face(out_, checkpoint, WeightType::f32);
    checkpoint.config.rope_base = 10000;
    EXPECT_THAT(refusal(checkpoint), HasSubstr("out/config.json: exists with another content; give a new or an empty"));
    checkpoint = model();
    directory_.write("other.model", "another tokenizer");
    EXPECT_EQ(refusal(checkpoint, {.tokenizer = directory_ / "text.model"}), "accepted");
    EXPECT_THAT(refusal(checkpoint, {.tokenizer = directory_ / "other.model"}), HasSubstr("tokenizer.model: exists"));
    std::filesystem::remove_all(out_);
    directory_.write("out", "a file");
    EXPECT_THAT(refusal(checkpoint), HasSubstr("out: Not a directory"));
}

TEST_F(HuggingFaceWriter, WhatAPlainLlamaHasNotIsRefused) {
    const auto refused = [&](auto&& change) {
        Checkpoint checkpoint = model();
        change(checkpoint);
        return refusal(checkpoint, {.tokenizer = {}});
    };
    EXPECT_THAT(refused([](Checkpoint& c) { c.config.sliding_window = 16; }), HasSubstr("a sliding window"));
    EXPECT_THAT(refused([](Checkpoint& c) { c.config.rope_scaling.type = RopeScaling::Type::yarn; }),
                HasSubstr("scaled rotary frequencies"));
    EXPECT_THAT(refused([](Checkpoint& c) { c.config.rope_scaling.divisors = {1}; }), HasSubstr("scaled rotary"));
    EXPECT_THAT(refused([](Checkpoint& c) { c.config.attention_bias = true; }), HasSubstr("biases"));
    EXPECT_THAT(refused([](Checkpoint& c) { c.config.rope_pairing = freqkv::RopePairing::adjacent; }),
                HasSubstr("only weights in Hugging Face's layout can be written; these are Hugging Face Llama, F32"));
    EXPECT_THAT(refused([](Checkpoint& c) { c.layers[1].up.type = WeightType::q8_0; }), HasSubstr("only weights in"));
    EXPECT_THAT(refusal(model(), {.tokenizer = directory_ / "tok.bin"}), HasSubstr("must be tokenizer.model or .json"));
    EXPECT_FALSE(file_exists(out_ + "/model.safetensors"));
}

}  // namespace
}  // namespace llama
