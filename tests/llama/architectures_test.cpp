// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/formats/hugging_face_config.hpp"
#include "llama/gguf_fixture.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/model/cache_settings.hpp"
#include "llama/model/features.hpp"
#include "llama/program/flop_model.hpp"
#include "llama/refusal.hpp"

// What files say of architectures other than Llama, beyond what the fixtures' logits show: defaults and refusals.
namespace llama {
namespace {

using nlohmann::json;
using test::Gguf;
using test::GgufWriter;
using test::refusal_of;
using test::small_gguf;
using testing::HasSubstr;

using Layers = std::vector<bool>;

Config config_of(const std::string& architecture, const json& changes = json::object()) {
    json config = {{"architectures", {architecture}}, {"hidden_size", 64},        {"intermediate_size", 16},
                   {"num_hidden_layers", 7},          {"num_attention_heads", 8}, {"vocab_size", 200000},
                   {"num_key_value_heads", 2}};
    config.update(changes);
    return parse_hugging_face_config(config, "config.json").config;
}

std::string refused(const std::string& architecture, const json& changes) {
    return refusal_of([&] { config_of(architecture, changes); });
}

TEST(Architectures, Qwen3) {
    const Config c = config_of("Qwen3ForCausalLM");
    EXPECT_TRUE(c.head_norms);
    EXPECT_EQ(c.head_dim, 128) << "whatever the width";
    EXPECT_FALSE(c.attention_bias);
    EXPECT_EQ(c.sliding_window, 0);
    EXPECT_TRUE(config_of("Qwen3ForCausalLM", {{"attention_bias", true}}).output_bias);
    const Config windows =
        config_of("Qwen3ForCausalLM", {{"use_sliding_window", true}, {"max_window_layers", 5}, {"sliding_window", 9}});
    EXPECT_EQ(windows.sliding_window, 0);
    EXPECT_EQ(windows.local_window, 9);
    EXPECT_EQ(windows.local_layers, (Layers{0, 0, 0, 0, 0, 1, 1}));
    EXPECT_EQ(windows.count_local_layers(), 2);
}

TEST(Architectures, SmolLM3) {
    const Config c = config_of("SmolLM3ForCausalLM");
    EXPECT_EQ(c.unrotated_layers, (Layers{0, 0, 0, 1, 0, 0, 0}));
    EXPECT_EQ(c.rope_base, 2e6);
    EXPECT_TRUE(c.shared_classifier);
    EXPECT_EQ(c.begin_of_text, 128000);
    EXPECT_EQ(config_of("SmolLM3ForCausalLM", {{"no_rope_layer_interval", 2}}).unrotated_layers,
              (Layers{0, 1, 0, 1, 0, 1, 0}));
    EXPECT_EQ(config_of("SmolLM3ForCausalLM", {{"no_rope_layers", {0, 1, 1, 1, 1, 1, 0, 0, 0}}}).unrotated_layers,
              (Layers{1, 0, 0, 0, 0, 0, 1}));
    const Config windows = config_of("SmolLM3ForCausalLM", {{"use_sliding_window", true}, {"sliding_window", 9}});
    EXPECT_EQ(windows.local_layers, windows.unrotated_layers) << "a window stands in for the rotation";
    EXPECT_THAT(refused("SmolLM3ForCausalLM", {{"no_rope_layers", {1, 1}}}),
                HasSubstr("no_rope_layers is a list, must be"));
    EXPECT_THAT(refused("SmolLM3ForCausalLM", {{"no_rope_layers", {1, 1, 1, 2, 1, 1, 1}}}),
                HasSubstr("no_rope_layers is 2, must be 0 or 1"));
    EXPECT_THAT(refused("SmolLM3ForCausalLM", {{"no_rope_layer_interval", 0}}), HasSubstr("must be at least 1"));
}

TEST(Architectures, Phi3) {
    const Config c = config_of("Phi3ForCausalLM");
    EXPECT_TRUE(c.joined_projections);
    EXPECT_EQ(c.norm_epsilon, 1e-5);
    EXPECT_EQ(c.rotation(), 8);
    EXPECT_EQ(c.sliding_window, 0);
    EXPECT_EQ(config_of("Phi3ForCausalLM", {{"sliding_window", 2047}}).sliding_window, 2047);
    EXPECT_EQ(config_of("Phi3ForCausalLM", {{"sliding_window", 9}, {"layer_types", {"full_attention"}}}).sliding_window,
              9)
        << "transformers does not read the kinds";
    EXPECT_EQ(config_of("Phi3ForCausalLM", {{"partial_rotary_factor", 0.75}}).rotation(), 6);
    // As files of its first releases have it.
    const json su = {{"type", "su"}, {"short_factor", {1, 1.5, 2, 3}}, {"long_factor", {1, 2, 4, 8}}};
    const Config scaled = config_of("Phi3ForCausalLM", {{"rope_scaling", su}, {"max_position_embeddings", 131072}});
    EXPECT_EQ(scaled.rope_scaling.type, RopeScaling::Type::longrope);
    EXPECT_EQ(scaled.rope_scaling.original_context, 4096);
    EXPECT_DOUBLE_EQ(scaled.rope_scaling.attention_factor, std::sqrt(1 + std::log(32) / std::log(4096)));
    EXPECT_EQ(scaled.rope_scaling.long_divisors, (std::vector<double>{1, 2, 4, 8}));
    EXPECT_THAT(refused("Phi3ForCausalLM", {{"partial_rotary_factor", 0.4}}),
                HasSubstr("partial_rotary_factor is 0.4"));
    EXPECT_THAT(refused("Phi3ForCausalLM", {{"partial_rotary_factor", 1.5}}), HasSubstr("at most 1"));
    EXPECT_THAT(refused("Phi3ForCausalLM", {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}),
                HasSubstr("supported are default and longrope"));
}

TEST(Architectures, Gemma2) {
    const Config c = config_of("Gemma2ForCausalLM");
    EXPECT_EQ(c.head_dim, 256);
    EXPECT_EQ(c.query_scalar, 256);
    EXPECT_EQ(c.embedding_scale, 8);
    EXPECT_EQ(c.norm_offset, 1);
    EXPECT_EQ(c.score_cap, 50);
    EXPECT_EQ(c.logit_cap, 30);
    EXPECT_EQ(c.activation, Activation::gelu_tanh);
    EXPECT_TRUE(c.output_norms && c.shared_classifier && !c.head_norms);
    EXPECT_EQ(c.local_layers, (Layers{1, 0, 1, 0, 1, 0, 1}));
    EXPECT_EQ(c.local_window, 4096);
    EXPECT_EQ(c.first_global_layer(), 1);
    EXPECT_EQ(c.local_rope_base, 0) << "all layers turn alike";
    const json none = {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}};
    EXPECT_EQ(config_of("Gemma2ForCausalLM", none).score_cap, 0);
    EXPECT_EQ(config_of("Gemma2ForCausalLM", none).logit_cap, 0);
    EXPECT_THAT(refused("Gemma2ForCausalLM", {{"attn_logit_softcapping", 0}}), HasSubstr("must be above 0, or null"));
    EXPECT_THAT(refused("Gemma2ForCausalLM", {{"sliding_window", nullptr}}), HasSubstr("sliding_window is null"));
    EXPECT_THAT(refused("Gemma2ForCausalLM", {{"query_pre_attn_scalar", 0}}), HasSubstr("query_pre_attn_scalar is 0"));
    EXPECT_THAT(refused("Gemma2ForCausalLM", {{"hidden_activation", "relu"}}), HasSubstr("supported are silu and"));
    EXPECT_THAT(refused("Gemma2ForCausalLM", {{"use_bidirectional_attention", true}}), HasSubstr("not supported"));
    EXPECT_THAT(refused("Gemma2ForCausalLM", {{"layer_types", {"full_attention"}}}), HasSubstr("of the 7 layers"));
}

TEST(Architectures, Gemma3) {
    // As transformers 4 wrote it.
    const json linear = {{"rope_type", "linear"}, {"factor", 8}};
    const Config c = config_of("Gemma3ForCausalLM", {{"rope_scaling", linear}, {"rope_local_base_freq", 20000}});
    EXPECT_TRUE(c.head_norms && c.output_norms);
    EXPECT_EQ(c.score_cap, 0);
    EXPECT_EQ(c.logit_cap, 0);
    EXPECT_EQ(c.rope_base, 1e6);
    EXPECT_EQ(c.local_rope_base, 20000);
    EXPECT_EQ(c.rope_scaling.type, RopeScaling::Type::linear);
    EXPECT_EQ(c.local_layers, (Layers{1, 1, 1, 1, 1, 0, 1}));
    EXPECT_EQ(config_of("Gemma3ForCausalLM", {{"sliding_window_pattern", 2}}).local_layers,
              (Layers{1, 0, 1, 0, 1, 0, 1}));
    const Config global = config_of("Gemma3ForCausalLM", {{"sliding_window_pattern", 1}});
    EXPECT_EQ(global.count_local_layers(), 0);
    EXPECT_EQ(global.local_rope_base, 0);
    const json both = {{"full_attention", {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 3e5}}},
                       {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 3e3}}}};
    const Config since = config_of("Gemma3ForCausalLM", {{"rope_parameters", both}});
    EXPECT_EQ(since.rope_base, 3e5);
    EXPECT_EQ(since.local_rope_base, 3e3);
    EXPECT_EQ(since.rope_scaling.factor, 4);
    EXPECT_THAT(refused("Gemma3ForCausalLM", {{"attn_logit_softcapping", 50.0}}), HasSubstr("must be null in Gemma 3"));
    EXPECT_THAT(refused("Gemma3ForCausalLM", {{"rope_parameters", linear}}), HasSubstr("must have full_attention"));
    EXPECT_THAT(refused("Gemma3ForCausalLM", {{"rope_parameters", {{"sliding_attention", linear}}}}),
                HasSubstr("rope_parameters.sliding_attention.rope_type is \"linear\""));
}

// As the releases have it: few settings, the others being those of transformers.
TEST(Architectures, Gemma3ForImagesIsReadForItsText) {
    const json text = {{"hidden_size", 64},
                       {"intermediate_size", 16},
                       {"num_hidden_layers", 7},
                       {"sliding_window", 8},
                       {"model_type", "gemma3_text"}};
    const json whole = {
        {"architectures", {"Gemma3ForConditionalGeneration"}}, {"text_config", text}, {"eos_token_id", {1, 106}}};
    const HuggingFaceConfig read = parse_hugging_face_config(whole, "config.json");
    EXPECT_EQ(read.prefix, "language_model.");
    EXPECT_EQ(read.config.heads, 8);
    EXPECT_EQ(read.config.vocabulary, 262208);
    EXPECT_EQ(read.config.local_window, 8);
    EXPECT_THAT(read.config.end_of_text, testing::ElementsAre(1, 106));
    EXPECT_THAT(refused("Gemma3ForConditionalGeneration", json::object()), HasSubstr("text_config is missing"));
    EXPECT_THAT(refused("Gemma3ForConditionalGeneration", {{"text_config", {{"hidden_size", "x"}}}}),
                HasSubstr("text_config.hidden_size is \"x\""));
}

// A small file of Gemma's keys; weights are not read.
GgufWriter gemma(const std::string& architecture) { return small_gguf({.architecture = architecture}); }

TEST_F(Gguf, Gemma2WithoutKeysIsAsReleased) {
    GgufWriter file = gemma("gemma2");
    const Config c = read_gguf_config(write(file.bytes()));
    EXPECT_EQ(c.norm_offset, 0) << "it is in the weights";
    EXPECT_EQ(c.score_cap, 50);
    EXPECT_EQ(c.logit_cap, 30);
    EXPECT_EQ(c.local_window, 4096);
    EXPECT_EQ(c.local_layers, (Layers{1, 0}));
    EXPECT_EQ(c.sliding_window, 0);
    EXPECT_EQ(c.query_scalar, 0) << "the size of a head";
    file.set("gemma2.block_count", std::uint32_t{46});
    EXPECT_EQ(read_gguf_config(write(file.bytes())).query_scalar, 4) << "the width divided by the heads";
    file.set("gemma2.attention.sliding_window_pattern", std::uint32_t{3});
    const Config third = read_gguf_config(write(file.bytes()));
    EXPECT_TRUE(third.kind(0).local && third.kind(1).local && !third.kind(2).local && third.kind(45).local);
}

TEST_F(Gguf, Gemma3WithoutAWindowHasNoLocalLayers) {
    GgufWriter file = gemma("gemma3");
    EXPECT_EQ(read_gguf_config(write(file.bytes())).count_local_layers(), 0);
    file.set("gemma3.attention.sliding_window", std::uint32_t{8});
    const Config c = read_gguf_config(write(file.bytes()));
    EXPECT_EQ(c.local_layers, (Layers{1, 1}));
    EXPECT_EQ(c.local_rope_base, 10000);
    EXPECT_TRUE(c.head_norms);
    file.set("gemma3.rope.freq_base_swa", 5000.0F);
    EXPECT_EQ(read_gguf_config(write(file.bytes())).local_rope_base, 5000);
    file.set("gemma3.attention.key_length_swa", std::uint32_t{8});
    EXPECT_THAT(refusal(file), HasSubstr("gemma3.attention.key_length_swa is 8"));
}

TEST_F(Gguf, SmolLM3LeavesEveryFourthLayerUnturned) {
    GgufWriter file = small_gguf({.architecture = "smollm3"});
    file.set("smollm3.block_count", std::uint32_t{9});
    const Config c = read_gguf_config(write(file.bytes()));
    EXPECT_EQ(c.unrotated_layers, (Layers{0, 0, 0, 1, 0, 0, 0, 1, 0}));
    EXPECT_EQ(c.rope_pairing, freqkv::RopePairing::adjacent);
}

TEST(Features, AreNamedWhereTheyAreMissing) {
    Config config;
    config.dim = config.head_dim = 8;
    EXPECT_NO_THROW(require_supported(config, "a.gguf", "finetune", {}));
    config.head_norms = true;
    EXPECT_EQ(refusal_of([&] { require_supported(config, "a.gguf", "finetune", {}); }),
              "a.gguf: finetune does not support norms of queries and keys, which this model has");
    EXPECT_NO_THROW(require_supported(config, "a.gguf", "finetune", {Feature::head_norms}));
    for (const char* const name :
         {"Qwen3ForCausalLM", "SmolLM3ForCausalLM", "Phi3ForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"}) {
        EXPECT_THROW(require_supported(config_of(name), name, "finetune", {}), FileError) << name;
    }
    EXPECT_NO_THROW(require_supported(config_of("LlamaForCausalLM"), "", "", {}));
    EXPECT_NO_THROW(require_supported(config_of("Qwen2ForCausalLM"), "", "", {}));
}

TEST(LocalLayers, HaveTheirWindowWhateverTheCacheHolds) {
    Config c = config_of("Gemma3ForCausalLM", {{"sliding_window", 100}});
    EXPECT_EQ(c.local_capacity(), 200);
    EXPECT_EQ(cache_bytes(c, 1000, CacheType::f16), 2 * 2 * (1000 + 6 * 200) * c.kv_dim());
    const CacheSettings settings{PolicyName::full, CacheType::f32, {1000, 0, 0}, 0.5};
    const double pairs = 1000.0 * 1000 + 6 * 1000.0 * 100;
    EXPECT_EQ(count_flops(c, settings, 1000).attention, pairs * 4 * static_cast<double>(c.query_dim()));
    c.local_window = 4096;
    EXPECT_EQ(c.local_capacity(), 4096 + 512);
}

}  // namespace
}  // namespace llama
