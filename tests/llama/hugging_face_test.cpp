// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "llama/hugging_face_files.hpp"
#include "llama/model/plain_weights.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using nlohmann::json;
using test::make_safetensors;
using test::random_tensor;
using test::refusal_of;
using test::small_config;
using test::small_model;
using test::TemporaryDirectory;
using test::TestTensors;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<float> numbers_of(const NamedWeights& weights) {
    if (weights.vector != nullptr) return {*weights.vector, *weights.vector + weights.shape.at(0)};
    const Weights& matrix = *weights.matrix;
    std::vector<float> numbers(static_cast<std::size_t>(matrix.rows * matrix.columns));
    to_floats(matrix.data, matrix.type, matrix.rows * matrix.columns, numbers.data());
    return numbers;
}

void expect_weights(Checkpoint& checkpoint, const TestTensors& tensors) {
    for (const NamedWeights& weights : named_weights(checkpoint)) {
        const bool shared = weights.name == "lm_head.weight" && checkpoint.config.shared_classifier;
        const std::string name = shared ? "model.embed_tokens.weight" : weights.name;
        ASSERT_TRUE(tensors.contains(name)) << name;
        EXPECT_EQ(numbers_of(weights), tensors.at(name).values) << name;
        EXPECT_EQ(weights.shape, tensors.at(name).shape) << name;
        if (weights.matrix == nullptr) continue;
        EXPECT_EQ(format_of(weights.matrix->type).name, tensors.at(name).type) << name;
        const auto width = static_cast<std::uintptr_t>(format_of(weights.matrix->type).bytes);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(weights.matrix->data) % width, 0u) << name;
    }
}

void write_model(const TemporaryDirectory& directory, const json& config, const TestTensors& tensors) {
    directory.write("config.json", config.dump());
    directory.write("model.safetensors", make_safetensors(tensors));
}

std::string refusal(const TemporaryDirectory& directory) {
    return refusal_of([&] { read_hugging_face(directory.path()); });
}

std::string refusal(const json& config, const TestTensors& tensors) {
    const TemporaryDirectory directory;
    write_model(directory, config, tensors);
    return refusal(directory);
}

Config read_config_text(const std::string& text) {
    const TemporaryDirectory directory;
    return read_hugging_face_config(directory.write("config.json", text));
}

Config config_with(const json& changes, const std::string& architecture = "LlamaForCausalLM") {
    json config = small_config(architecture);
    config.update(changes);
    return read_config_text(config.dump());
}

std::string config_refusal(const json& changes, const std::string& architecture = "LlamaForCausalLM") {
    return refusal_of([&] { config_with(changes, architecture); });
}

TEST(HuggingFace, EveryTypeOfNumberIsReadInPlaceOrAligned) {
    for (const char* const type : {"F32", "F16", "BF16"}) {
        for (const bool misaligned : {false, true}) {
            SCOPED_TRACE(std::string(type) + (misaligned ? ", misaligned" : ""));
            const TestTensors tensors = small_model(type);
            const TemporaryDirectory directory;
            directory.write("config.json", small_config().dump());
            directory.write("model.safetensors", make_safetensors(tensors, misaligned));
            Checkpoint checkpoint = read_hugging_face(directory.path());
            expect_weights(checkpoint, tensors);
            EXPECT_EQ(checkpoint.format, std::string("Hugging Face Llama, ") + type);
            EXPECT_EQ(checkpoint.config.rope_pairing, freqkv::RopePairing::half_split);
            const Checkpoint moved = std::move(checkpoint);
            EXPECT_EQ(numbers_of({"", {10, 8}, const_cast<Weights*>(&moved.embedding), nullptr}),
                      tensors.at("model.embed_tokens.weight").values);
        }
    }
}

TEST(HuggingFace, Qwen2HasBiasesOfQueriesKeysAndValues) {
    const TestTensors tensors = small_model("BF16", true);
    const TemporaryDirectory directory;
    write_model(directory, small_config("Qwen2ForCausalLM"), tensors);
    Checkpoint checkpoint = read_hugging_face(directory.path());
    EXPECT_TRUE(checkpoint.config.attention_bias);
    expect_weights(checkpoint, tensors);
    EXPECT_EQ(checkpoint.format, "Hugging Face Qwen2, BF16");
    EXPECT_THAT(refusal(small_config("Qwen2ForCausalLM"), small_model()),
                HasSubstr("\"model.layers.0.self_attn.q_proj.bias\" is missing"));
}

TEST(HuggingFace, ABiasBehindTheAttentionIsReadWhereItIsThere) {
    TestTensors tensors = small_model("F32", true);
    json config = small_config();
    EXPECT_THAT(refusal(config, tensors), HasSubstr("is none of this model's"));
    config["attention_bias"] = true;
    tensors["model.layers.0.self_attn.o_proj.bias"] = {"F32", {8}, std::vector<float>(8, 0)};
    EXPECT_THAT(refusal(config, tensors), HasSubstr("\"model.layers.1.self_attn.o_proj.bias\" is missing"));
    tensors["model.layers.1.self_attn.o_proj.bias"] = {"F32", {8}, std::vector<float>(8, 1)};
    EXPECT_EQ(refusal(config, tensors), "accepted");
    tensors.erase("model.layers.0.self_attn.o_proj.bias");
    tensors.erase("model.layers.1.self_attn.o_proj.bias");
    EXPECT_EQ(refusal(config, tensors), "accepted") << "as in Llamas that were made of Qwen2";
    // transformers knows none in Qwen2.
    tensors["model.layers.0.self_attn.o_proj.bias"] = {"F32", {8}, std::vector<float>(8, 0)};
    EXPECT_EQ(refusal(small_config("Qwen2ForCausalLM"), tensors), "accepted");
    tensors["model.layers.0.self_attn.o_proj.bias"].values[3] = 1;
    EXPECT_THAT(refusal(small_config("Qwen2ForCausalLM"), tensors),
                AllOf(HasSubstr("o_proj.bias"), HasSubstr("only if it is zero")));
}

TEST(HuggingFace, ASharedClassifierIsTheEmbedding) {
    json config = small_config();
    config["tie_word_embeddings"] = true;
    TestTensors tensors = small_model("F16", false, false);
    const auto read = [&] {
        const TemporaryDirectory directory;
        write_model(directory, config, tensors);
        Checkpoint checkpoint = read_hugging_face(directory.path());
        expect_weights(checkpoint, tensors);
        EXPECT_EQ(checkpoint.classifier.data == checkpoint.embedding.data, checkpoint.config.shared_classifier);
        return checkpoint.config.shared_classifier;
    };
    EXPECT_TRUE(read()) << "saved once";
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
    EXPECT_TRUE(read()) << "saved twice";
    tensors["lm_head.weight"].values[0] += 1;
    EXPECT_FALSE(read()) << "the tensors differ, against config.json";

    tensors = small_model("F16");
    tensors.erase("model.embed_tokens.weight");
    const TemporaryDirectory directory;
    write_model(directory, config, tensors);
    Checkpoint checkpoint = read_hugging_face(directory.path());
    EXPECT_EQ(numbers_of(named_weights(checkpoint).front()), tensors.at("lm_head.weight").values)
        << "saved under the other name";
}

TEST(HuggingFace, ShardsAreOneModel) {
    const TestTensors tensors = small_model("BF16");
    std::vector<TestTensors> shards(2);
    json index{{"metadata", {{"total_size", 1}}}};
    std::size_t i = 0;
    for (const auto& [name, tensor] : tensors) {
        const std::size_t shard = i++ % 2;
        shards[shard][name] = tensor;
        index["weight_map"][name] = "part-" + std::to_string(shard) + ".safetensors";
    }
    const TemporaryDirectory directory;
    directory.write("config.json", small_config().dump());
    directory.write("part-0.safetensors", make_safetensors(shards[0]));
    directory.write("part-1.safetensors", make_safetensors(shards[1]));
    directory.write("model.safetensors.index.json", index.dump());
    Checkpoint checkpoint = read_hugging_face(directory.path());
    expect_weights(checkpoint, tensors);
    EXPECT_EQ(checkpoint.format, "Hugging Face Llama, BF16, 2 shards");

    index["weight_map"]["lm_head.weight"] = "part-1.safetensors";
    directory.write("model.safetensors.index.json", index.dump());
    EXPECT_THAT(refusal(directory), HasSubstr("\"lm_head.weight\" is not in the shard"));
    index["weight_map"]["lm_head.weight"] = "part-0.safetensors";
    index["weight_map"]["more"] = "part-0.safetensors";
    directory.write("model.safetensors.index.json", index.dump());
    EXPECT_THAT(refusal(directory), HasSubstr("\"more\" is not in the shard"));
    index["weight_map"].erase("more");
    shards[1]["lm_head.weight"] = tensors.at("lm_head.weight");
    directory.write("part-1.safetensors", make_safetensors(shards[1]));
    directory.write("model.safetensors.index.json", index.dump());
    EXPECT_THAT(refusal(directory), HasSubstr("\"lm_head.weight\" is in another shard, too"));
}

TEST(HuggingFace, ShardsAreFilesOfTheSameDirectory) {
    const TemporaryDirectory directory;
    directory.write("config.json", small_config().dump());
    const json names[] = {"../x",  "/etc/passwd",      "a/b",         "..", ".", "", "a\\b", std::string("a\0b", 3), 3,
                          nullptr, json::array({"x"}), json::object()};
    for (const json& name : names) {
        directory.write("model.safetensors.index.json", json{{"weight_map", {{"w", name}}}}.dump());
        EXPECT_THAT(refusal(directory), HasSubstr("must be the name of a file in the same directory")) << name.dump();
    }
    for (const char* const text : {"{}", "[]", R"({"weight_map":[]})", R"({"weight_map":null})", "", "{"}) {
        directory.write("model.safetensors.index.json", text);
        EXPECT_NE(refusal(directory), "accepted") << text;
    }
}

TEST(HuggingFace, WithoutWeightsTheErrorSaysWhatWasLookedFor) {
    const TemporaryDirectory directory;
    EXPECT_THAT(refusal(directory), HasSubstr("config.json"));
    directory.write("config.json", small_config().dump());
    EXPECT_THAT(refusal(directory), AllOf(HasSubstr("model.safetensors and model.safetensors.index.json"),
                                          Not(HasSubstr("pytorch_model"))));
    directory.write("pytorch_model.bin", "x");
    EXPECT_THAT(refusal(directory), HasSubstr("pytorch_model.bin is not read"));
}

TEST(HuggingFace, TensorsFitTheConfiguration) {
    const auto changed = [](const std::string& name, const test::TestTensor& tensor) {
        TestTensors tensors = small_model();
        tensors[name] = tensor;
        return refusal(small_config(), tensors);
    };
    EXPECT_THAT(changed("lm_head.weight", random_tensor({8, 10}, "F32", 1)),
                HasSubstr("\"lm_head.weight\" has the shape [8, 10], must be [10, 8]"));
    EXPECT_THAT(changed("model.norm.weight", random_tensor({8, 1}, "F32", 1)), HasSubstr("[8, 1], must be [8]"));
    EXPECT_THAT(changed("model.norm.weight", random_tensor({9}, "F32", 1)), HasSubstr("[9], must be [8]"));
    EXPECT_THAT(changed("model.layers.2.mlp.up_proj.weight", random_tensor({12, 8}, "F32", 1)),
                HasSubstr("is none of this model's"));
    EXPECT_THAT(changed("model.layers.0.mlp.up_proj.bias", random_tensor({12}, "F32", 1)),
                HasSubstr("is none of this model's"));
    EXPECT_EQ(changed("model.layers.0.self_attn.rotary_emb.inv_freq", random_tensor({1}, "F32", 1)), "accepted");
    EXPECT_EQ(changed("model.norm.weight", random_tensor({8}, "BF16", 1)), "accepted") << "types may be mixed";

    TestTensors tensors = small_model();
    tensors.erase("model.layers.1.self_attn.o_proj.weight");
    EXPECT_THAT(refusal(small_config(), tensors), HasSubstr("\"model.layers.1.self_attn.o_proj.weight\" is missing"));
    json config = small_config();
    config["num_hidden_layers"] = 16384;
    EXPECT_THAT(refusal(config, small_model()), HasSubstr("16384 layers, for which the files' 21 tensors are too few"));

    const TemporaryDirectory directory;
    directory.write("config.json", small_config().dump());
    std::string file = make_safetensors(small_model());
    for (std::size_t at = file.find("F32"); at != std::string::npos; at = file.find("F32")) file.replace(at, 3, "I32");
    directory.write("model.safetensors", file);
    EXPECT_THAT(refusal(directory), HasSubstr("has the type \"I32\", must be F32, F16 or BF16"));
}

TEST(HuggingFaceConfig, DefaultsAreThoseOfTransformers) {
    json config = small_config();
    config.erase("max_position_embeddings");
    config.erase("num_key_value_heads");
    const Config llama = read_config_text(config.dump());
    EXPECT_EQ(llama.context, 2048);
    EXPECT_EQ(llama.kv_heads, 4);
    EXPECT_EQ(llama.head_dim, 2);
    EXPECT_EQ(llama.norm_epsilon, 1e-6);
    EXPECT_EQ(llama.rope_base, 10000);
    EXPECT_EQ(llama.begin_of_text, 1);
    EXPECT_THAT(llama.end_of_text, ElementsAre(2));
    EXPECT_FALSE(llama.shared_classifier);
    EXPECT_FALSE(llama.attention_bias);
    EXPECT_EQ(llama.sliding_window, 0);
    EXPECT_EQ(llama.rope_scaling.type, RopeScaling::Type::none);

    config["num_key_value_heads"] = nullptr;
    config["architectures"] = {"MistralForCausalLM"};
    const Config mistral = read_config_text(config.dump());
    EXPECT_EQ(mistral.context, 131072);
    EXPECT_EQ(mistral.kv_heads, 4);
    EXPECT_EQ(mistral.sliding_window, 4096);

    config["num_attention_heads"] = 8;
    config["head_dim"] = 4;
    config.erase("num_key_value_heads");
    EXPECT_EQ(read_config_text(config.dump()).kv_heads, 8) << "the default of Mistral";

    config["num_key_value_heads"] = 2;
    config["architectures"] = {"Qwen2ForCausalLM"};
    const Config qwen2 = read_config_text(config.dump());
    EXPECT_EQ(qwen2.context, 32768);
    EXPECT_EQ(qwen2.head_dim, 4);
    EXPECT_EQ(qwen2.begin_of_text, -1);
    EXPECT_THAT(qwen2.end_of_text, IsEmpty());
    EXPECT_TRUE(qwen2.attention_bias);
    EXPECT_EQ(qwen2.sliding_window, 0);

    config.erase("architectures");
    config["model_type"] = "llama";
    EXPECT_FALSE(read_config_text(config.dump()).attention_bias);
}

TEST(HuggingFaceConfig, OtherModelsAreRefusedByName) {
    EXPECT_THAT(
        config_refusal({{"architectures", {"GemmaForCausalLM"}}}),
        AllOf(HasSubstr("\"GemmaForCausalLM\""), HasSubstr("LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM")));
    EXPECT_THAT(config_refusal({{"architectures", nullptr}, {"model_type", "gpt2"}}), HasSubstr("\"gpt2\""));
    EXPECT_THAT(config_refusal({{"architectures", nullptr}}), HasSubstr("architectures is missing"));
    EXPECT_THAT(config_refusal({{"architectures", json::array()}}), HasSubstr("architectures"));
    EXPECT_THAT(config_refusal({{"architectures", {3}}}), HasSubstr("architectures"));
    EXPECT_THAT(config_refusal({{"hidden_act", "gelu"}}), HasSubstr("hidden_act is \"gelu\""));
    EXPECT_THAT(config_refusal({{"mlp_bias", true}}, "Qwen2ForCausalLM"), HasSubstr("mlp_bias is true"));
    EXPECT_TRUE(config_with({{"mlp_bias", true}}).feed_forward_bias);
    EXPECT_THAT(config_refusal({{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor is 0.5"));
    EXPECT_THAT(config_refusal({{"quantization_config", {{"quant_method", "gptq"}}}}),
                AllOf(HasSubstr("quantization_config"), HasSubstr("gptq")));
}

TEST(HuggingFaceConfig, NumbersOfTheWrongKindAreRefusedByName) {
    for (const char* const key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                  "vocab_size", "num_key_value_heads", "max_position_embeddings", "head_dim"}) {
        for (const json& value : {json("8"), json(8.5), json(true), json::array({8}), json(18446744073709551615u)}) {
            EXPECT_THAT(config_refusal({{key, value}}), HasSubstr(std::string(key) + " is ")) << value;
        }
        for (const json& value : {json(0), json(-8), json(std::int64_t{1} << 62)}) {
            EXPECT_NE(config_refusal({{key, value}}), "accepted") << key << " " << value;
        }
    }
    for (const char* const key :
         {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}) {
        EXPECT_THAT(config_refusal({{key, nullptr}}), HasSubstr(std::string(key) + " is missing"));
    }
    for (const char* const key : {"rms_norm_eps", "rope_theta"}) {
        EXPECT_THAT(config_refusal({{key, "1"}}), HasSubstr(std::string(key) + " is ")) << key;
        EXPECT_NE(config_refusal({{key, 0}}), "accepted") << key;
        EXPECT_NE(config_refusal({{key, -1e-6}}), "accepted") << key;
        for (const char* const value : {"NaN", "Infinity", "1e999"}) {
            std::string text = small_config().dump();
            text.insert(1, "\"" + std::string(key) + "\":" + value + ",");
            EXPECT_NE(refusal_of([&] { read_config_text(text); }), "accepted") << key << " " << value;
        }
    }
    EXPECT_THAT(config_refusal({{"num_key_value_heads", 3}}), HasSubstr("3 key and value heads"));
    EXPECT_THAT(config_refusal({{"hidden_size", 9}}), HasSubstr("must divide hidden_size, which is 9"));
    EXPECT_THAT(config_refusal({{"head_dim", 3}}), HasSubstr("must be even"));
    EXPECT_EQ(config_with({{"head_dim", nullptr}}).head_dim, 2);
    EXPECT_EQ(config_with({{"head_dim", 16}}).query_dim(), 64);
}

TEST(HuggingFaceConfig, TextThatIsNoObjectIsRefused) {
    for (const std::string text : {"[]", "3", "{", "", "null", "{\"a\":1,\"a\":2}"}) {
        EXPECT_NE(refusal_of([&] { read_config_text(text); }), "accepted") << text;
    }
    EXPECT_THAT(refusal_of([&] { read_config_text(std::string(1000, '[')); }), HasSubstr("nested deeper"));
    const std::string whole = small_config().dump();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_NE(refusal_of([&] { read_config_text(whole.substr(0, size)); }), "accepted") << size << " bytes";
    }
}

TEST(HuggingFaceConfig, TokensThatEndATextComeFromBothFiles) {
    EXPECT_THAT(config_with({{"eos_token_id", {3, 4, 3}}, {"bos_token_id", 5}}).end_of_text, ElementsAre(3, 4));
    EXPECT_EQ(config_with({{"bos_token_id", nullptr}}).begin_of_text, -1);
    EXPECT_THAT(config_with({{"eos_token_id", nullptr}}).end_of_text, IsEmpty());
    EXPECT_THAT(config_with({{"eos_token_id", -1}}).end_of_text, IsEmpty());
    const json wrong[] = {10, -2, 1.5, "2", json::array({1, "2"}), json::object(), 18446744073709551615u, 4294967297};
    for (const json& value : wrong) {
        EXPECT_THAT(config_refusal({{"eos_token_id", value}}), HasSubstr("eos_token_id")) << value;
    }
    EXPECT_THAT(config_refusal({{"bos_token_id", 10}}), HasSubstr("bos_token_id is 10"));

    const TemporaryDirectory directory;
    directory.write("config.json", small_config().dump());
    directory.write("generation_config.json", R"({"eos_token_id": [7, 2]})");
    EXPECT_THAT(read_hugging_face_config(directory.path()).end_of_text, ElementsAre(2, 7));
    EXPECT_THAT(read_hugging_face_config(directory / "config.json").end_of_text, ElementsAre(2, 7));
    directory.write("generation_config.json", R"({"eos_token_id": 99})");
    EXPECT_THAT(refusal_of([&] { read_hugging_face_config(directory.path()); }),
                AllOf(HasSubstr("generation_config.json"), HasSubstr("eos_token_id is 99")));
}

TEST(HuggingFaceConfig, ASlidingWindowOfAllLayersBoundsTheCache) {
    const std::string mistral = "MistralForCausalLM";
    const std::string qwen2 = "Qwen2ForCausalLM";
    EXPECT_EQ(config_with({{"sliding_window", 32}}).sliding_window, 0) << "Llama has none";
    EXPECT_EQ(config_with({{"sliding_window", 32}}, mistral).sliding_window, 32);
    EXPECT_EQ(config_with({{"sliding_window", nullptr}}, mistral).sliding_window, 0);
    EXPECT_THAT(config_refusal({{"sliding_window", 0}}, mistral), HasSubstr("sliding_window is 0"));
    EXPECT_EQ(config_with({{"sliding_window", 32}}, qwen2).sliding_window, 0);
    const auto qwen2_window = [&](json changes) {
        changes["use_sliding_window"] = true;
        changes["sliding_window"] = 32;
        return config_with(changes, qwen2).sliding_window;
    };
    EXPECT_EQ(qwen2_window({{"max_window_layers", 0}}), 32);
    EXPECT_EQ(qwen2_window({{"max_window_layers", 2}}), 0);
    EXPECT_EQ(qwen2_window({{"layer_types", {"sliding_attention", "sliding_attention"}}}), 32);
    EXPECT_EQ(qwen2_window({{"layer_types", {"full_attention", "full_attention"}}}), 0);
    EXPECT_THAT(refusal_of([&] { qwen2_window({{"max_window_layers", -1}}); }), HasSubstr("max_window_layers is -1"));
    EXPECT_EQ(qwen2_window({{"max_window_layers", 1}}), 0) << "a window of some layers is theirs alone";
    EXPECT_THAT(refusal_of([&] { qwen2_window({{"layer_types", {"full_attention"}}}); }), HasSubstr("layer_types"));
}

TEST(HuggingFaceConfig, EveryKindOfRotaryScalingIsRead) {
    // As saved before and since transformers 5.
    for (const char* const key : {"rope_scaling", "rope_parameters"}) {
        SCOPED_TRACE(key);
        const auto read = [&](const json& rope) { return config_with({{key, rope}}).rope_scaling; };
        using Type = RopeScaling::Type;
        EXPECT_EQ(read(nullptr).type, Type::none);
        EXPECT_EQ(read(json::object()).type, Type::none);
        EXPECT_EQ(read({{"rope_type", "default"}}).type, Type::none);
        EXPECT_EQ(read({{"type", "linear"}, {"factor", 4}}).type, Type::linear);
        EXPECT_EQ(read({{"rope_type", "linear"}, {"factor", 4}}).factor, 4);
        EXPECT_EQ(read({{"rope_type", "dynamic"}, {"type", "linear"}, {"factor", 2.5}}).type, Type::dynamic);

        const RopeScaling llama3 = read({{"rope_type", "llama3"},
                                         {"factor", 8.0},
                                         {"low_freq_factor", 1.0},
                                         {"high_freq_factor", 4.0},
                                         {"original_max_position_embeddings", 32}});
        EXPECT_EQ(llama3.type, Type::llama3);
        EXPECT_EQ(llama3.factor, 8);
        EXPECT_EQ(llama3.low_frequency_factor, 1);
        EXPECT_EQ(llama3.high_frequency_factor, 4);
        EXPECT_EQ(llama3.original_context, 32);

        const RopeScaling yarn = read({{"rope_type", "yarn"}, {"factor", 4.0}});
        EXPECT_EQ(yarn.type, Type::yarn);
        EXPECT_EQ(yarn.original_context, 64) << "the model's context where none is given";
        EXPECT_EQ(yarn.beta_fast, 32);
        EXPECT_EQ(yarn.beta_slow, 1);
        EXPECT_TRUE(yarn.truncate);
        EXPECT_LT(yarn.attention_factor, 0) << "from the factor";
        const RopeScaling full = read({{"rope_type", "yarn"},
                                       {"factor", nullptr},
                                       {"original_max_position_embeddings", 16},
                                       {"beta_fast", 24},
                                       {"beta_slow", 2},
                                       {"truncate", false},
                                       {"mscale", 0.7},
                                       {"mscale_all_dim", 1.3}});
        EXPECT_EQ(full.factor, 4) << "of the contexts where none is given";
        EXPECT_EQ(full.beta_fast, 24);
        EXPECT_EQ(full.beta_slow, 2);
        EXPECT_FALSE(full.truncate);
        const double log = 0.1 * std::log(4);
        EXPECT_DOUBLE_EQ(full.attention_factor, (0.7 * log + 1) / (1.3 * log + 1));
        EXPECT_EQ(read({{"rope_type", "yarn"}, {"factor", 4}, {"attention_factor", 1.5}}).attention_factor, 1.5);

        EXPECT_EQ(config_with({{key, {{"rope_type", "default"}, {"rope_theta", 5e5}}}, {"rope_theta", 3}}).rope_base,
                  5e5);
        EXPECT_EQ(config_with({{key, {{"rope_type", "default"}}}, {"rope_theta", 3}}).rope_base, 3);
    }
    EXPECT_EQ(
        config_with({{"rope_scaling", {{"type", "yarn"}, {"factor", 4}}}, {"original_max_position_embeddings", 8}})
            .rope_scaling.original_context,
        8);
}

TEST(HuggingFaceConfig, RotaryScalingThatIsNotUnderstoodIsRefusedByName) {
    const auto refused = [](const json& rope) { return config_refusal({{"rope_scaling", rope}}); };
    EXPECT_THAT(refused({{"type", "su"}}), HasSubstr("rope_scaling.type is \"su\""));
    EXPECT_THAT(refused({{"type", "longrope"}}), HasSubstr("rope_scaling.short_factor is missing"));
    EXPECT_THAT(refused({{"type", "longrope"}, {"short_factor", {1}}, {"long_factor", {0}}}),
                HasSubstr("rope_scaling.long_factor is 0, must be positive"));
    EXPECT_THAT(refused({{"type", "longrope"}, {"short_factor", {1, 2}}}),
                HasSubstr("short_factor is a list, must be a list of 1 numbers"));
    EXPECT_THAT(refused({{"rope_type", 3}}), HasSubstr("rope_scaling.rope_type is 3"));
    EXPECT_THAT(refused({{"type", "linear"}}), HasSubstr("rope_scaling.factor is missing"));
    EXPECT_THAT(refused({{"type", "linear"}, {"factor", "4"}}), HasSubstr("rope_scaling.factor is \"4\""));
    EXPECT_THAT(refused({{"type", "linear"}, {"factor", 0}}), HasSubstr("factor"));
    EXPECT_THAT(refused({{"type", "llama3"}, {"factor", 8}}), HasSubstr("low_freq_factor is missing"));
    EXPECT_THAT(refused({{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
                HasSubstr("low_freq_factor is 4"));
    EXPECT_THAT(refused({{"type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 0}}),
                HasSubstr("original_max_position_embeddings is 0"));
    EXPECT_THAT(refused({{"type", "yarn"}, {"factor", 4}, {"attention_factor", -1}}),
                HasSubstr("attention_factor is -1"));
    EXPECT_THAT(refused({{"type", "yarn"}, {"factor", 4}, {"truncate", 1}}), HasSubstr("truncate is 1"));
    EXPECT_THAT(refused({{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}),
                HasSubstr("partial_rotary_factor"));
    EXPECT_THAT(refused({{"full_attention", {{"rope_type", "default"}}}}), HasSubstr("full_attention"));
    EXPECT_THAT(refused({1, 2}), HasSubstr("no JSON object"));
    EXPECT_THAT(refused(3), HasSubstr("no JSON object"));
}

}  // namespace
}  // namespace llama
