// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_checkpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "llama/formats/gguf_file.hpp"
#include "llama/gguf_fixture.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/naive_row.hpp"

namespace llama {
namespace {

using test::all_types;
using test::bytes_of;
using test::dequantized;
using test::Gguf;
using test::GgufWriter;
using test::NaiveRow;
using test::random_row;
using test::small_gguf;
using testing::ElementsAre;
using testing::HasSubstr;

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
            const bool in_blocks = format_of(type).block > 1;
            GgufWriter file =
                small_gguf({.type = type, .dim = in_blocks ? 256U : 16U, .hidden = in_blocks ? 512U : 24U});
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

TEST_F(Gguf, RotaryScalingIsRead) {
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
              "the tensor rope_factors_long.weight is missing, which llama.rope.scaling.type longrope needs");
    EXPECT_EQ(refused("su", "factor", 2),
              "llama.rope.scaling.type is su; none, linear, yarn and longrope are supported");
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
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.remove("llama.context_length"); }),
              "llama.context_length is missing");
    EXPECT_EQ(refusal_after([](GgufWriter& file) { file.remove("general.architecture"); }),
              "general.architecture is missing");
    EXPECT_EQ(refusal_after([](GgufWriter&) {}, {.architecture = "gemma4"}),
              "the architecture is gemma4; supported are llama, qwen2, qwen3, smollm3, phi3, gemma2, gemma3");
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
              "the tensor blk.1.attn_output.bias is missing");
    EXPECT_EQ(refusal_after([](GgufWriter& file) {
                  file.add("blk.1.attn_output.bias", WeightType::f32, {16}, std::string(64, '\0'));
              }),
              "the tensor blk.1.attn_output.bias belongs to nothing that is supported");
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
