// SPDX-License-Identifier: MIT
#include "llama/formats/adapter_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "llama/formats/adapter.hpp"
#include "llama/formats/hugging_face.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/hugging_face_files.hpp"
#include "llama/io/json_file.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::make_safetensors;
using test::random_tensor;
using test::TemporaryDirectory;
using test::TestTensor;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string second_q_proj = "model.layers.1.self_attn.q_proj";
const std::string v_proj = "model.layers.0.self_attn.v_proj";

// A model, and an adapter of two of its projections, its embedding and two of its norms.
class AdapterWriter : public testing::Test {
protected:
    AdapterWriter() {
        std::filesystem::create_directory(directory_ / "model");
        write_model(false);
        adapter_.base_model = directory_ / "model";
        adapter_.rank = 2;
        adapter_.alpha = 3;
        add_factors(second_q_proj, a_q_, b_q_);
        add_factors(v_proj, a_v_, b_v_);
        add_tensor("model.embed_tokens.weight", embedding_);
        add_tensor("model.layers.0.input_layernorm.weight", norm_);
        add_tensor("model.norm.weight", norm_);
    }

    void write_model(bool shared_classifier) const {
        json config = test::small_config();
        config["tie_word_embeddings"] = shared_classifier;
        directory_.write("model/config.json", config.dump());
        directory_.write("model/model.safetensors",
                         make_safetensors(test::small_model("F32", false, !shared_classifier)));
    }

    static Weights weights_of(const TestTensor& tensor) {
        return weights(tensor.values.data(), tensor.shape.front(), tensor.shape.size() > 1 ? tensor.shape.back() : 1);
    }

    void add_factors(const std::string& module, const TestTensor& a, const TestTensor& b) {
        adapter_.factors.push_back({module, weights_of(a), weights_of(b)});
    }

    void add_tensor(const std::string& name, const TestTensor& tensor) {
        adapter_.tensors.push_back({name, tensor.shape, weights_of(tensor)});
    }

    void write(WeightType type = WeightType::f32) const { write_adapter(out_, adapter_, type); }

    std::string refusal() const {
        return test::refusal_of([&] { write(); });
    }

    Checkpoint merged() const {
        Checkpoint checkpoint = read_hugging_face(directory_ / "model");
        merge_adapter(checkpoint, out_);
        return checkpoint;
    }

    TestTensor a_q_ = random_tensor({2, 8}, "F32", 101);
    TestTensor b_q_ = random_tensor({8, 2}, "F32", 102);
    TestTensor a_v_ = random_tensor({2, 8}, "F32", 103);
    TestTensor b_v_ = random_tensor({4, 2}, "F32", 104);
    TestTensor embedding_ = random_tensor({10, 8}, "F32", 105);
    TestTensor norm_ = random_tensor({8}, "F32", 106);
    TemporaryDirectory directory_;
    std::string out_ = directory_ / "adapter";
    TrainedAdapter adapter_;
};

std::vector<float> floats_of(const Weights& weights) {
    const auto* const data = reinterpret_cast<const float*>(weights.data);
    return {data, data + weights.rows * weights.columns};
}

// W + 3 / 2 B A, of multiples of 1/8: exact.
std::vector<float> adapted(const std::vector<float>& weights, const TestTensor& a, const TestTensor& b) {
    std::vector<float> sum = weights;
    const std::size_t columns = 8;
    for (std::size_t i = 0; i < sum.size(); ++i) {
        for (std::size_t r = 0; r < 2; ++r) {
            sum[i] += 1.5f * b.values[i / columns * 2 + r] * a.values[r * columns + i % columns];
        }
    }
    return sum;
}

TEST_F(AdapterWriter, TheReaderMergesWhatWasWritten) {
    const Checkpoint original = read_hugging_face(directory_ / "model");
    for (const WeightType type : {WeightType::f32, WeightType::bf16}) {
        std::filesystem::remove_all(out_);
        write(type);
        const Checkpoint checkpoint = merged();
        EXPECT_EQ(floats_of(checkpoint.layers[1].wq), adapted(floats_of(original.layers[1].wq), a_q_, b_q_));
        EXPECT_EQ(floats_of(checkpoint.layers[0].wv), adapted(floats_of(original.layers[0].wv), a_v_, b_v_));
        EXPECT_EQ(floats_of(checkpoint.layers[0].wq), floats_of(original.layers[0].wq));
        EXPECT_EQ(std::vector<float>(checkpoint.final_norm, checkpoint.final_norm + 8), norm_.values);
        const TensorFile file = read_safetensors(out_ + "/adapter_model.safetensors");
        EXPECT_EQ(file.tensors.size(), 7u);
        for (const auto& [name, tensor] : file.tensors) {
            EXPECT_THAT(name, testing::StartsWith("base_model.model.model."));
            EXPECT_EQ(tensor.type, format_of(type).name) << name;
        }
    }
}

TEST_F(AdapterWriter, TheConfigurationNamesTheModulesAsPeftMatchesThem) {
    write();
    const json config = read_json(out_ + "/adapter_config.json");
    EXPECT_EQ(config["peft_type"], "LORA");
    EXPECT_EQ(config["task_type"], "CAUSAL_LM");
    EXPECT_EQ(config["r"], 2);
    EXPECT_EQ(config["lora_alpha"], 3);
    EXPECT_EQ(config["base_model_name_or_path"], directory_ / "model");
    EXPECT_EQ(config["target_modules"], json({"q_proj", "v_proj"}));
    EXPECT_EQ(config["modules_to_save"], json({"embed_tokens", "input_layernorm", "model.norm"}))
        << "PEFT looks for modules that end so, and all norms end in \"norm\"";
    EXPECT_EQ(config["ensure_weight_tying"], false);
    EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model"));
}

TEST_F(AdapterWriter, WithoutWholeTensorsThereAreNoModulesToSave) {
    adapter_.tensors.clear();
    write();
    EXPECT_TRUE(read_json(out_ + "/adapter_config.json")["modules_to_save"].is_null());
    EXPECT_NO_THROW(merged());
}

TEST_F(AdapterWriter, ASharedClassifierStaysShared) {
    write_model(true);
    adapter_.shared_classifier = true;
    write();
    const Checkpoint checkpoint = merged();
    EXPECT_TRUE(checkpoint.config.shared_classifier);
    EXPECT_EQ(floats_of(checkpoint.embedding), embedding_.values);
    EXPECT_EQ(floats_of(checkpoint.classifier), embedding_.values);
}

TEST_F(AdapterWriter, LaterNumbersReplaceEarlierOnesButNoOtherAdapter) {
    write();
    norm_.values[3] = 0.625f;
    write();
    EXPECT_EQ(merged().final_norm[3], 0.625f);
    adapter_.alpha = 4;
    EXPECT_THAT(refusal(), HasSubstr("adapter_config.json: exists with another content"));
    EXPECT_EQ(merged().final_norm[3], 0.625f);
}

TEST_F(AdapterWriter, WhatDoesNotFitTogetherIsRefusedBeforeAnythingIsWritten) {
    adapter_.rank = 3;
    EXPECT_THAT(refusal(), HasSubstr("the factors of \"" + second_q_proj + "\" have the ranks 2 and 2, must be 3"));
    adapter_.rank = 2;
    add_tensor("model.layers.0.self_attn.q_proj.bias", norm_);
    EXPECT_THAT(refusal(), HasSubstr("tensor \"model.layers.0.self_attn.q_proj.bias\" is the weight of no module"));
    EXPECT_THAT(directory_.names(), ElementsAre("model"));
}

}  // namespace
}  // namespace llama
