// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_config.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/hugging_face_architecture.hpp"
#include "llama/formats/hugging_face_layers.hpp"
#include "llama/formats/hugging_face_rope.hpp"
#include "llama/io/json_object.hpp"

namespace llama {

namespace {

using Family = HuggingFaceFamily;
using Architecture = HuggingFaceArchitecture;

// The settings that would change the arithmetic in a way that is not there.
void check_arithmetic(const JsonObject& object, Family family) {
    const bool may_have_mlp_bias = family == Family::llama || family == Family::smollm3;
    if (object.flag("mlp_bias").value_or(false) && !may_have_mlp_bias) object.fail("mlp_bias", true, "not supported");
    if (object.flag("use_bidirectional_attention").value_or(false)) {
        object.fail("use_bidirectional_attention", true, "not supported");
    }
    // transformers has the key and does nothing with it.
    if (family == Family::gemma3 && object.find("attn_logit_softcapping") != nullptr) {
        object.fail("attn_logit_softcapping", *object.find("attn_logit_softcapping"), "must be null in Gemma 3");
    }
    if (const nlohmann::json* const quantization = object.find("quantization_config")) {
        const auto method =
            JsonObject(*quantization, object.path(), "quantization_config.").text("quant_method").value_or("unknown");
        object.fail("quantization_config", method, "quantised checkpoints of Hugging Face are not supported");
    }
}

Activation read_activation(const JsonObject& object, const Architecture& architecture) {
    const char* const key = architecture.is_gemma() ? "hidden_activation" : "hidden_act";
    const std::string name = object.text(key).value_or(architecture.is_gemma() ? "gelu_pytorch_tanh" : "silu");
    if (name == "silu") return Activation::silu;
    if (name != "gelu_pytorch_tanh") object.fail(key, name, "supported are silu and gelu_pytorch_tanh");
    return Activation::gelu_tanh;
}

void read_biases(const JsonObject& object, Family family, Config& config) {
    const bool all = object.flag("attention_bias").value_or(false) && family != Family::mistral &&
                     family != Family::qwen2 && family != Family::phi3;
    config.attention_bias = all || family == Family::qwen2;
    config.output_bias = all;
    config.feed_forward_bias = object.flag("mlp_bias").value_or(false);
}

// A number of Gemma's, of which null says that there is none.
double read_cap(const JsonObject& object, const char* key, double missing) {
    const double cap = object.has(key) ? object.number(key).value_or(0) : missing;
    if (object.find(key) != nullptr && !(cap > 0)) object.fail(key, *object.find(key), "must be above 0, or null");
    return cap;
}

void read_gemma(const JsonObject& object, Family family, Config& config) {
    config.output_norms = true;
    config.norm_offset = 1;
    config.embedding_scale = std::sqrt(static_cast<double>(config.dim));
    config.query_scalar = object.number("query_pre_attn_scalar").value_or(256);
    if (!(config.query_scalar > 0)) object.fail("query_pre_attn_scalar", config.query_scalar, "must be above 0");
    const bool second = family == Family::gemma2;
    config.score_cap = second ? read_cap(object, "attn_logit_softcapping", 50) : 0;
    config.logit_cap = read_cap(object, "final_logit_softcapping", second ? 30 : 0);
}

void add_token(std::vector<Token>& tokens, const JsonObject& object, const nlohmann::json& value, Index vocabulary) {
    // -1 stands for none.
    const Index id = JsonObject::as_whole(value).value_or(-2);
    if (id < -1 || id >= vocabulary) {
        object.fail("eos_token_id", value, "must be ids below the vocabulary's " + std::to_string(vocabulary));
    }
    const auto token = static_cast<Token>(id);
    if (token >= 0 && std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
}

void add_end_of_text(const JsonObject& object, Config& config) {
    const nlohmann::json* const ids = object.find("eos_token_id");
    if (ids == nullptr) return;
    const std::span<const nlohmann::json> all =
        ids->is_array() ? std::span(ids->get_ref<const nlohmann::json::array_t&>()) : std::span(ids, 1);
    constexpr std::size_t most = 1024;
    if (all.size() > most) object.fail("eos_token_id", *ids, "of more than " + std::to_string(most) + " ids");
    for (const nlohmann::json& id : all) add_token(config.end_of_text, object, id, config.vocabulary);
}

void read_special_tokens(const JsonObject& object, const Architecture& architecture, Config& config) {
    const auto known = [&](Token token) { return token < config.vocabulary ? token : -1; };
    if (object.has("bos_token_id")) {
        const Index begin = object.whole("bos_token_id").value_or(-1);
        if (begin < -1 || begin >= config.vocabulary) {
            object.fail("bos_token_id", begin,
                        "must be an id below the vocabulary's " + std::to_string(config.vocabulary));
        }
        config.begin_of_text = static_cast<Token>(begin);
    } else {
        config.begin_of_text = known(architecture.begin_of_text);
    }
    if (object.has("eos_token_id")) {
        add_end_of_text(object, config);
    } else if (known(architecture.end_of_text) >= 0) {
        config.end_of_text.push_back(architecture.end_of_text);
    }
}

}  // namespace

HuggingFaceConfig parse_hugging_face_config(const nlohmann::json& json, const std::string& path) {
    const JsonObject whole(json, path);
    const Architecture& architecture = find_architecture(whole);
    const Family family = architecture.family;
    HuggingFaceConfig result{{}, architecture.title};
    const nlohmann::json* text = &json;
    if (architecture.part) {
        text = whole.find("text_config");
        if (text == nullptr) throw FileError(path, "text_config is missing");
        result.prefix = "language_model.";
    }
    const JsonObject object(*text, path, architecture.part ? "text_config." : "");
    Config& config = result.config;
    check_arithmetic(object, family);
    const auto whole_or = [&](const char* key, Index missing) {
        return missing > 0 ? object.whole(key).value_or(missing) : object.required_whole(key);
    };
    config.dim = object.required_whole("hidden_size");
    config.hidden = object.required_whole("intermediate_size");
    config.layers = object.required_whole("num_hidden_layers");
    config.heads = whole_or("num_attention_heads", architecture.heads);
    config.vocabulary = whole_or("vocab_size", architecture.vocabulary);
    const bool kv_default = !object.has("num_key_value_heads") && architecture.kv_heads > 0;
    config.kv_heads = object.whole("num_key_value_heads").value_or(kv_default ? architecture.kv_heads : config.heads);
    config.context = object.whole("max_position_embeddings").value_or(architecture.context);
    config.norm_epsilon = object.number("rms_norm_eps").value_or(architecture.norm_epsilon);
    config.shared_classifier = object.flag("tie_word_embeddings").value_or(architecture.tied);
    config.activation = read_activation(object, architecture);
    read_biases(object, family, config);
    config.head_norms = family == Family::qwen3 || family == Family::gemma3;
    config.joined_projections = family == Family::phi3;
    config.rope_pairing = freqkv::RopePairing::half_split;
    if (const auto head_dim = object.whole("head_dim")) {
        config.head_dim = *head_dim;
    } else if (architecture.head_dim > 0) {
        config.head_dim = architecture.head_dim;
    } else {
        if (config.heads < 1 || config.dim % config.heads != 0) {
            object.fail("num_attention_heads", config.heads,
                        "must divide hidden_size, which is " + std::to_string(config.dim));
        }
        config.head_dim = config.dim / config.heads;
    }
    check_config(config, path);
    read_hugging_face_layers(object, architecture, config);
    if (architecture.is_gemma()) read_gemma(object, family, config);
    read_hugging_face_rope(object, architecture.rope, config);
    // Without local layers nothing is left to turn by their base.
    if (config.count_local_layers() == 0) config.local_rope_base = 0;
    check_config(config, path);
    read_special_tokens(whole.has("eos_token_id") ? whole : object, architecture, config);
    return result;
}

void add_end_of_text(Config& config, const nlohmann::json& generation_config, const std::string& path) {
    add_end_of_text(JsonObject(generation_config, path), config);
}

}  // namespace llama
