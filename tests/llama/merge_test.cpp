// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "llama/formats/adapter.hpp"
#include "llama/formats/hugging_face.hpp"
#include "llama/hugging_face_files.hpp"
#include "llama/io/json_file.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/program/program.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::make_safetensors;
using test::random_tensor;
using test::TemporaryDirectory;
using test::TestTensors;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string up_proj = "model.layers.1.mlp.up_proj";

// A BF16 model with an adapter of one projection and one norm.
class Merge : public testing::Test {
protected:
    Merge() {
        std::filesystem::create_directory(directory_ / "model");
        std::filesystem::create_directory(directory_ / "adapter");
        json config = test::small_config();
        config["torch_dtype"] = "bfloat16";
        config["something"] = 1e-5;
        directory_.write("model/config.json", config.dump());
        directory_.write("model/model.safetensors", make_safetensors(test::small_model("BF16")));
        directory_.write("model/tokenizer.json", "{}");
        directory_.write("model/generation_config.json", R"({"eos_token_id": 7})");
        directory_.write("model/README.md", "not of the model");
        directory_.write("adapter/adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 3})");
        TestTensors& adapter = adapter_;
        adapter["base_model.model." + up_proj + ".lora_A.weight"] = random_tensor({2, 8}, "F32", 1);
        adapter["base_model.model." + up_proj + ".lora_B.weight"] = random_tensor({12, 2}, "F32", 2);
        adapter["base_model.model.model.norm.weight"] = random_tensor({8}, "F16", 3);
        directory_.write("adapter/adapter_model.safetensors", make_safetensors(adapter));
    }

    int run(const std::string& type = "as-merged") {
        return merge({directory_ / "model", directory_ / "adapter", directory_ / "out", type});
    }

    std::string refusal() {
        try {
            run();
        } catch (const FileError& error) {
            return error.what();
        }
        return "accepted";
    }

    std::string type_of(const std::string& name) const { return read_safetensors_types().at(name); }

    std::map<std::string, std::string> read_safetensors_types() const {
        std::map<std::string, std::string> types;
        for (const TensorFile& file : open_tensor_files(directory_ / "out")) {
            for (const auto& [name, tensor] : file.tensors) types[name] = tensor.type;
        }
        return types;
    }

    TemporaryDirectory directory_;
    TestTensors adapter_;
};

TEST_F(Merge, WritesTheModelThatTheAdapterMakes) {
    ASSERT_EQ(run(), 0);
    Checkpoint expected = read_hugging_face(directory_ / "model");
    merge_adapter(expected, directory_ / "adapter");
    Checkpoint written = read_hugging_face(directory_ / "out");
    const auto all = named_weights(expected);
    const auto read = named_weights(written);
    ASSERT_EQ(all.size(), read.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (all[i].vector != nullptr) {
            for (Index n = 0; n < all[i].shape[0]; ++n) EXPECT_EQ((*all[i].vector)[n], (*read[i].vector)[n]);
            continue;
        }
        const Weights& a = *all[i].matrix;
        const Weights& b = *read[i].matrix;
        ASSERT_EQ(a.bytes(), b.bytes()) << all[i].name;
        EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())), 0) << all[i].name;
    }
    EXPECT_EQ(type_of(up_proj + ".weight"), "F32");
    EXPECT_EQ(type_of("model.norm.weight"), "F16") << "as the adapter has it";
    EXPECT_EQ(type_of("model.layers.0.input_layernorm.weight"), "BF16") << "as the model has it";
    EXPECT_EQ(type_of("lm_head.weight"), "BF16");
    EXPECT_THAT(written.config.end_of_text, ElementsAre(2, 7)) << "generation_config.json came along";
    const json config = read_json(directory_ / "out/config.json");
    EXPECT_EQ(config["torch_dtype"], "float32") << "of the widest type";
    EXPECT_EQ(config["something"], 1e-5);
    EXPECT_TRUE(std::filesystem::exists(directory_ / "out/tokenizer.json"));
    EXPECT_FALSE(std::filesystem::exists(directory_ / "out/README.md"));
    EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model", "out"));
}

TEST_F(Merge, RoundsTheChangedWeightsOnRequest) {
    ASSERT_EQ(run("bf16"), 0);
    for (const auto& [name, type] : read_safetensors_types()) EXPECT_EQ(type, "BF16") << name;
    EXPECT_EQ(read_json(directory_ / "out/config.json")["torch_dtype"], "bfloat16");
    Checkpoint exact = read_hugging_face(directory_ / "model");
    merge_adapter(exact, directory_ / "adapter");
    const Checkpoint written = read_hugging_face(directory_ / "out");
    std::vector<std::byte> rounded(12 * 8 * 2);
    from_floats(reinterpret_cast<const float*>(exact.layers[1].up.data), WeightType::bf16, 12 * 8, rounded.data());
    EXPECT_EQ(std::memcmp(rounded.data(), written.layers[1].up.data, rounded.size()), 0);
}

TEST_F(Merge, NewTokensComeWithTheirTokenizer) {
    TestTensors adapter;
    adapter["base_model.model.model.embed_tokens.weight"] = random_tensor({13, 8}, "F32", 4);
    adapter["base_model.model.lm_head.weight"] = random_tensor({13, 8}, "F32", 5);
    directory_.write("adapter/adapter_model.safetensors", make_safetensors(adapter));
    directory_.write("adapter/tokenizer.json", R"({"of": "adapter"})");
    directory_.write("model/special_tokens_map.json", "{}");
    ASSERT_EQ(run(), 0);
    EXPECT_EQ(read_json(directory_ / "out/config.json")["vocab_size"], 13);
    const Checkpoint written = read_hugging_face(directory_ / "out");
    EXPECT_EQ(written.classifier.rows, 13);
    EXPECT_EQ(test::read_text(directory_ / "out/tokenizer.json"), R"({"of": "adapter"})");
    EXPECT_FALSE(std::filesystem::exists(directory_ / "out/special_tokens_map.json")) << "of the other tokenizer";
    EXPECT_TRUE(std::filesystem::exists(directory_ / "out/generation_config.json"));
}

// Of what LLaMA-2 does not have: joined projections, norms with an offset, biases.
TEST_F(Merge, WritesEveryArchitectureAsItWasRead) {
    struct Case {
        const char* model;
        const char* module;
        Index rows;
    };
    for (const Case& c : {Case{"phi3", "self_attn.qkv_proj", 64}, Case{"gemma3", "self_attn.q_proj", 64},
                          Case{"qwen3", "mlp.up_proj", 32}, Case{"llama-biases", "self_attn.o_proj", 32}}) {
        SCOPED_TRACE(c.model);
        const std::string model = FREQKV_FIXTURES_DIR "/models/" + std::string(c.model);
        TestTensors tensors;
        const std::string name = "base_model.model.model.layers.1." + std::string(c.module);
        tensors[name + ".lora_A.weight"] = random_tensor({2, 32}, "F32", 1);
        tensors[name + ".lora_B.weight"] = random_tensor({c.rows, 2}, "F32", 2);
        const std::string adapter = directory_ / "adapter";
        directory_.write("adapter/adapter_model.safetensors", make_safetensors(tensors));
        const std::string out = directory_ / c.model;
        ASSERT_EQ(merge({model, adapter, out, "as-merged"}), 0);
        Checkpoint base = read_hugging_face(model);
        Checkpoint expected = read_hugging_face(model);
        merge_adapter(expected, adapter);
        Checkpoint written = read_hugging_face(out);
        const auto before = named_weights(base);
        const auto all = named_weights(expected);
        const auto read = named_weights(written);
        ASSERT_EQ(all.size(), read.size());
        int changed = 0;
        for (std::size_t i = 0; i < all.size(); ++i) {
            SCOPED_TRACE(all[i].name);
            if (all[i].vector != nullptr) {
                for (Index n = 0; n < all[i].shape[0]; ++n) EXPECT_EQ((*all[i].vector)[n], (*read[i].vector)[n]);
                continue;
            }
            const Weights& a = *all[i].matrix;
            ASSERT_EQ(a.bytes(), read[i].matrix->bytes());
            EXPECT_EQ(std::memcmp(a.data, read[i].matrix->data, static_cast<std::size_t>(a.bytes())), 0);
            changed += a.type == before[i].matrix->type ? 0 : 1;
        }
        EXPECT_EQ(changed, 1);
        if (expected.config.joined_projections) {
            for (const Checkpoint* const merged : {&expected, &written}) {
                const LayerWeights& layer = merged->layers[1];
                EXPECT_EQ(layer.wq.data, layer.qkv.data);
                EXPECT_EQ(layer.wk.data, layer.qkv.row(merged->config.query_dim()));
                EXPECT_EQ(layer.up.data, layer.gate_up.row(merged->config.hidden));
            }
        }
    }
}

TEST_F(Merge, RefusesAModelForImages) {
    try {
        merge(
            {FREQKV_FIXTURES_DIR "/models/gemma3-for-images", directory_ / "adapter", directory_ / "out", "as-merged"});
        FAIL() << "accepted";
    } catch (const FileError& error) {
        EXPECT_THAT(error.what(), HasSubstr("a model for images"));
    }
    EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model"));
}

TEST_F(Merge, TakesANewOrEmptyDirectoryOnly) {
    std::filesystem::create_directory(directory_ / "out");
    EXPECT_EQ(run(), 0);
    EXPECT_THAT(refusal(), HasSubstr("must be new or an empty directory"));
    std::filesystem::remove_all(directory_ / "out");
    directory_.write("out", "a file");
    EXPECT_THAT(refusal(), HasSubstr("must be new or an empty directory"));
    EXPECT_EQ(test::read_text(directory_ / "out"), "a file");
}

TEST_F(Merge, FillsTheEmptyDirectoryThatALinkPointsTo) {
    std::filesystem::create_directory(directory_ / "empty");
    std::filesystem::create_symlink("empty", directory_ / "out");
    EXPECT_EQ(run(), 0);
    EXPECT_TRUE(std::filesystem::is_symlink(directory_ / "out"));
    EXPECT_TRUE(std::filesystem::exists(directory_ / "empty/model.safetensors"));
}

TEST_F(Merge, RefusesNumbersThatAreNoneByTheNameOfTheirTensor) {
    const auto not_written = [&](const std::string& file, TestTensors tensors, const std::string& name, float number) {
        const std::string before = test::read_text(directory_ / file);
        tensors.at(name).values[5] = number;
        directory_.write(file, make_safetensors(tensors));
        const std::string message = refusal();
        directory_.write(file, before);
        EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model"));
        return message;
    };
    const std::string adapter = "adapter/adapter_model.safetensors";
    const std::string lora_a = "base_model.model." + up_proj + ".lora_A.weight";
    const std::string norm = "base_model.model.model.norm.weight";
    EXPECT_THAT(not_written(adapter, adapter_, lora_a, NAN),
                HasSubstr("tensor \"" + lora_a + "\" has an element that is not a number, at 5"));
    EXPECT_THAT(not_written(adapter, adapter_, norm, -INFINITY),
                HasSubstr("tensor \"" + norm + "\" has an element that is minus infinite, at 5"));
    for (const char* const name : {"model.layers.0.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight",
                                   "model.layers.1.mlp.up_proj.weight"}) {
        EXPECT_THAT(not_written("model/model.safetensors", test::small_model("BF16"), name, INFINITY),
                    HasSubstr("tensor \"" + std::string(name) + "\" has an element that is "));
    }
    directory_.write("adapter/adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 1e308})");
    EXPECT_THAT(refusal(), HasSubstr("merged with it, tensor \"" + up_proj + ".weight\" has an element that is "));
    EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model"));
}

TEST_F(Merge, LeavesNothingBehindWhenItFails) {
    directory_.write("adapter/adapter_config.json", R"({"peft_type": "LORA", "r": 5, "lora_alpha": 3})");
    EXPECT_THAT(refusal(), HasSubstr("must be [12, 5]"));
    EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model"));
    std::filesystem::remove_all(directory_ / "model");
    directory_.write("model", "a file");
    EXPECT_THAT(refusal(), HasSubstr("no directory"));
    EXPECT_THAT(directory_.names(), ElementsAre("adapter", "model"));
}

}  // namespace
}  // namespace llama
