// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llama/formats/hugging_face.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/program/train_fixture.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::Arguments;
using test::expect_refusal;
using test::instruction;
using test::losses_of;
using test::make_text;
using test::mean_loss;
using test::names_of;
using test::Outcome;
using test::output_of;
using test::parse;
using test::read_text;
using test::run;
using test::tokenizer_file;
using test::TrainProgram;
using testing::HasSubstr;
using testing::IsSupersetOf;

namespace fs = std::filesystem;

TEST_F(TrainProgram, FinetuneMakesAnAdapterForTheCompressedCache) {
    output_of(finetune("adapter", small_cache()));
    const double before = loss(base(), small_cache());
    const double after = loss(base(), small_cache() + Arguments{"--adapter", file("adapter")});
    EXPECT_LT(after, before - 0.1);
    EXPECT_THAT(names_of(file("adapter")), IsSupersetOf({"adapter_config.json", "adapter_model.safetensors"}));
    const json config = parse(read_text(files_ / "adapter/adapter_config.json"));
    EXPECT_EQ(config["r"], 8);
    EXPECT_EQ(config["lora_alpha"], 16);
    EXPECT_EQ(config["target_modules"], json({"k_proj", "o_proj", "q_proj", "v_proj"}));
    EXPECT_EQ(config["modules_to_save"],
              json({"embed_tokens", "input_layernorm", "model.norm", "post_attention_layernorm"}));
    EXPECT_EQ(read_safetensors(files_ / "adapter/adapter_model.safetensors").tensors.size(), 4u * 2 + 4);
    // Of what is not in the adapter nothing changes.
    output_of(finetune("none", small_cache() + Arguments{"--steps", "1", "--learning-rate", "1e-30"}));
    EXPECT_NEAR(loss(base(), small_cache() + Arguments{"--adapter", file("none")}), before, 0.02);
}

TEST_F(TrainProgram, FinetuneOfAllWeightsMakesAModel) {
    output_of(finetune("whole", small_cache() + Arguments{"--full"}));
    EXPECT_LT(loss(file("whole"), small_cache()), loss(base(), small_cache()) - 0.1);
    EXPECT_THAT(names_of(file("whole")), IsSupersetOf({"config.json", "model.safetensors", "tokenizer.model"}));
    EXPECT_EQ(read_text(files_ / "whole/tokenizer.model"), read_text(tokenizer_file));
    EXPECT_EQ(parse(read_text(files_ / "whole/config.json"))["dtype"], "bfloat16");
    EXPECT_EQ(parse(read_text(base() + "/config.json"))["dtype"], "float32");
}

TEST_F(TrainProgram, FinetuneTrainsTheChosenParts) {
    const auto tuned = [&](const std::string& name, const Arguments& options) {
        output_of(finetune(name, Arguments{"--steps", "2"} + options));
        return parse(read_text(file(name) + "/adapter_config.json"));
    };
    const json attention = tuned("attention", {"--train", "q,k,v,o"});
    EXPECT_EQ(attention["target_modules"], json({"k_proj", "o_proj", "q_proj", "v_proj"}));
    EXPECT_TRUE(attention["modules_to_save"].is_null());
    EXPECT_EQ(read_safetensors(files_ / "attention/adapter_model.safetensors").tensors.size(), 4u * 2);
    const json others = tuned("others", {"--train", "down,gate,classifier"});
    EXPECT_EQ(others["target_modules"], json({"down_proj", "gate_proj"}));
    EXPECT_EQ(others["modules_to_save"], json({"lm_head"}));
    const double before = loss(base(), small_cache());
    for (const char* const name : {"attention", "others"}) {
        EXPECT_NE(loss(base(), small_cache() + Arguments{"--adapter", file(name)}), before) << name;
    }
    // Of a whole model the rest is as it was.
    output_of(finetune("norms", {"--steps", "2", "--full", "--train", "norms", "--type", "f32"}));
    const TensorFile old_file = read_safetensors(base() + "/model.safetensors");
    const TensorFile new_file = read_safetensors(files_ / "norms/model.safetensors");
    for (const auto& [name, tensor] : old_file.tensors) {
        EXPECT_EQ(std::ranges::equal(tensor.bytes, new_file.tensors.at(name).bytes),
                  name.find("norm") == std::string::npos)
            << name;
    }
    expect_refusal(run(finetune("out", {"--train", "embedding,norms"})), 2, {"--train", "q, k, v, o, gate", "--full"});
    expect_refusal(run(finetune("out", {"--train", "q,x"})), 2, {"--train", "x"});
    output_of(train("tied", {"--steps", "1", "--tie"}));
    expect_refusal(run(finetune("out", {"--model", file("tied"), "--train", "q,classifier"})), 2,
                   {"--train classifier", "--train embedding"});
}

TEST_F(TrainProgram, FinetuneNeedsATokenizerForTextsOnly) {
    output_of({"tokenize", "--tokenizer", tokenizer_file, "--text", file("text.txt"), "--out", file("ids.u16")});
    fs::copy(base(), file("mute"));
    fs::remove(file("mute/tokenizer.model"));
    expect_refusal(run(finetune("text", {"--model", file("mute"), "--steps", "2"})), 1, {"mute: no tokenizer there"});
    const Arguments ids{"--token-file", file("ids.u16"), "--steps", "2"};
    output_of(finetune("ids", ids + Arguments{"--model", file("mute")}));
    output_of(finetune("same", ids));
    EXPECT_EQ(losses_of(file("ids")), losses_of(file("same")));
}

// The model of a directory, whose weights are in F32, as llama.cpp converts it.
std::string as_gguf(const std::string& directory) {
    const Checkpoint checkpoint = read_hugging_face(directory);
    const Config& c = checkpoint.config;
    test::GgufModelOptions options;
    const auto u64 = [](Index value) { return static_cast<std::uint64_t>(value); };
    options.dim = u64(c.dim), options.hidden = u64(c.hidden), options.layers = u64(c.layers);
    options.heads = u64(c.heads), options.kv_heads = u64(c.kv_heads), options.vocabulary = u64(c.vocabulary);
    test::GgufWriter file = test::small_gguf(options);
    file.set("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_epsilon));
    file.set("llama.rope.freq_base", static_cast<float>(c.rope_base));
    const auto set = [&](const std::string& name, const Weights& weights, bool of_pairs) {
        std::string bytes;
        for (Index r = 0; r < weights.rows; ++r) {
            const Index first = r / c.head_dim * c.head_dim, i = r - first;
            const Index from = of_pairs ? first + i % 2 * (c.head_dim / 2) + i / 2 : r;
            bytes.append(reinterpret_cast<const char*>(weights.row(from)),
                         static_cast<std::size_t>(weights.row_bytes()));
        }
        const auto found = std::find_if(file.tensors.begin(), file.tensors.end(),
                                        [&](const auto& tensor) { return tensor.name == name + ".weight"; });
        found->data = bytes;
    };
    const auto norm = [&](const std::string& name, const float* numbers) {
        set(name, weights(numbers, 1, c.dim), false);
    };
    set("token_embd", checkpoint.embedding, false);
    set("output", checkpoint.classifier, false);
    norm("output_norm", checkpoint.final_norm);
    for (std::size_t l = 0; l < checkpoint.layers.size(); ++l) {
        const LayerWeights& layer = checkpoint.layers[l];
        const std::string prefix = "blk." + std::to_string(l) + ".";
        norm(prefix + "attn_norm", layer.attention_norm);
        norm(prefix + "ffn_norm", layer.ffn_norm);
        set(prefix + "attn_q", layer.wq, true);
        set(prefix + "attn_k", layer.wk, true);
        set(prefix + "attn_v", layer.wv, false);
        set(prefix + "attn_output", layer.wo, false);
        set(prefix + "ffn_gate", layer.gate, false);
        set(prefix + "ffn_up", layer.up, false);
        set(prefix + "ffn_down", layer.down, false);
    }
    return file.bytes();
}

TEST_F(TrainProgram, AGgufFileIsTunedLikeTheModelThatItWasMadeOf) {
    const std::string model = files_.write("base.gguf", as_gguf(base()));
    output_of({"tokenize", "--tokenizer", tokenizer_file, "--text", file("text.txt"), "--out", file("ids.u16")});
    const Arguments ids = small_cache() + Arguments{"--token-file", file("ids.u16"), "--token-format", "u16"};
    output_of(finetune("of-file", ids + Arguments{"--model", model}));
    output_of(finetune("of-directory", ids));
    EXPECT_EQ(losses_of(file("of-file")), losses_of(file("of-directory")));
    const auto loss_with = [&](const std::string& of, const Arguments& more) {
        const Arguments command{"perplexity", "--model", of, "--threads", "1", "--json", "-"};
        return std::log(parse(output_of(command + ids + more)).at("perplexity").get<double>());
    };
    const Arguments adapter{"--adapter", file("of-file")};
    EXPECT_LT(loss_with(model, adapter), loss_with(model, {}) - 0.1);
    EXPECT_NEAR(loss_with(model, adapter), loss_with(base(), adapter), 1e-5);

    expect_refusal(run(finetune("whole", ids + Arguments{"--model", model, "--full"})), 2, {"--full: ", "config.json"});
}

TEST_F(TrainProgram, FinetuneTrainsUnderEveryPolicy) {
    std::vector<std::vector<std::vector<std::string>>> losses;
    for (const char* const policy : {"low-pass", "local-window", "low-pass-unscaled", "full"}) {
        Arguments options{"--policy", policy, "--steps", "3"};
        if (policy != std::string("full")) options = options + Arguments{"--capacity", "20", "--recent", "2"};
        output_of(finetune(policy, options));
        for (const auto& other : losses) EXPECT_NE(losses_of(file(policy)), other) << policy;
        losses.push_back(losses_of(file(policy)));
    }
}

TEST_F(TrainProgram, InstructionsTeachTheAnswers) {
    json records = json::array();
    for (int i = 0; i < 12; ++i) records.push_back(instruction("where is the cat?", "on the mat"));
    records.push_back(instruction("is it raining?", ""));
    records.push_back(instruction(make_text(3, 40), make_text(4, 40)));
    files_.write("records.json", records.dump());
    const Arguments options{"--instructions", file("records.json"), "--length",   "100",
                            "--policy",       "low-pass",           "--capacity", "32"};
    const Outcome outcome = run(finetune("adapter", options));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("records.json: 1 records are skipped, 1 cut to --length 100\n"));
    EXPECT_LT(mean_loss(file("adapter"), 15, 5), 0.7 * mean_loss(file("adapter"), 0, 1));
    EXPECT_GT(loss(base(), Arguments{"--adapter", file("adapter")}), 0);
}

}  // namespace
}  // namespace llama
