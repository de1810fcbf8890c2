// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_config.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/json_object.hpp"

namespace llama {

namespace {

// What transformers takes where config.json is silent.
struct Architecture {
    const char* name;
    const char* model_type;
    const char* family;
    Index context;
    Index kv_heads;        // 0: as many as there are query heads
    Index sliding_window;  // 0: none
    Token begin_of_text;   // -1: none
    Token end_of_text;     // -1: none
};

constexpr Architecture architectures[] = {
    {"LlamaForCausalLM", "llama", "Llama", 2048, 0, 0, 1, 2},
    {"MistralForCausalLM", "mistral", "Mistral", 131072, 8, 4096, 1, 2},
    {"Qwen2ForCausalLM", "qwen2", "Qwen2", 32768, 32, 4096, -1, -1},
};

const Architecture& find_architecture(const JsonObject& object) {
    std::string known;
    for (const Architecture& architecture : architectures) {
        known += (known.empty() ? "" : ", ") + std::string(architecture.name);
    }
    if (const nlohmann::json* const names = object.find("architectures")) {
        const bool named = names->is_array() && !names->empty() && names->front().is_string();
        if (!named) object.fail("architectures", *names, "must be a list of names");
        for (const Architecture& architecture : architectures) {
            if (names->front() == architecture.name) return architecture;
        }
        object.fail("the architecture", names->front(), "supported are " + known);
    }
    const std::string type = object.required("architectures", object.text("model_type"));
    for (const Architecture& architecture : architectures) {
        if (type == architecture.model_type) return architecture;
    }
    object.fail("model_type", type, "supported are llama, mistral, qwen2");
}

// The settings that would change the arithmetic.
void check_arithmetic(const JsonObject& object) {
    const std::string activation = object.text("hidden_act").value_or("silu");
    if (activation != "silu") object.fail("hidden_act", activation, "must be \"silu\"");
    if (object.flag("mlp_bias").value_or(false)) object.fail("mlp_bias", true, "not supported");
    if (object.number("partial_rotary_factor").value_or(1) != 1) {
        object.fail("partial_rotary_factor", *object.find("partial_rotary_factor"), "must be 1");
    }
    if (const nlohmann::json* const quantization = object.find("quantization_config")) {
        const auto method =
            JsonObject(*quantization, object.path(), "quantization_config.").text("quant_method").value_or("unknown");
        object.fail("quantization_config", method, "quantised checkpoints of Hugging Face are not supported");
    }
}

Index read_sliding_window(const JsonObject& object, const Architecture& architecture, const Config& config) {
    const std::string family = architecture.family;
    if (family == "Llama") return 0;
    if (family == "Qwen2" && !object.flag("use_sliding_window").value_or(false)) return 0;
    const Index window =
        object.has("sliding_window") ? object.whole("sliding_window").value_or(0) : architecture.sliding_window;
    if (object.find("sliding_window") != nullptr && window < 1) {
        object.fail("sliding_window", window, "must be at least 1, or null");
    }
    if (family == "Mistral" || window == 0) return window;
    // Qwen2 counts the layers that see everything, or lists the kinds of all layers.
    const Index full = object.whole("max_window_layers").value_or(28);
    if (full < 0) object.fail("max_window_layers", full, "must not be negative");
    Index sliding = std::max<Index>(0, config.layers - full);
    if (const nlohmann::json* const kinds = object.find("layer_types")) {
        if (!kinds->is_array()) object.fail("layer_types", *kinds, "must be a list");
        sliding = std::count(kinds->begin(), kinds->end(), "sliding_attention");
        if (sliding + std::count(kinds->begin(), kinds->end(), "full_attention") != config.layers) {
            object.fail("layer_types", *kinds,
                        "must say full_attention or sliding_attention for each of the " +
                            std::to_string(config.layers) + " layers");
        }
    }
    if (sliding > 0 && sliding < config.layers) {
        object.fail("use_sliding_window", true,
                    "but for " + std::to_string(sliding) + " of " + std::to_string(config.layers) +
                        " layers only; the same window in all layers is supported");
    }
    return sliding > 0 ? window : 0;
}

double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

// Numbers that transformers takes for missing if they are 0.
double nonzero_or(const std::optional<double>& value, double otherwise) {
    return value.value_or(0) != 0 ? *value : otherwise;
}

void read_yarn(const JsonObject& rope, RopeScaling& scaling, Index context) {
    scaling.type = RopeScaling::Type::yarn;
    const auto original = static_cast<double>(std::max<Index>(1, scaling.original_context));
    scaling.factor = rope.number("factor").value_or(static_cast<double>(context) / original);
    scaling.beta_fast = nonzero_or(rope.number("beta_fast"), scaling.beta_fast);
    scaling.beta_slow = nonzero_or(rope.number("beta_slow"), scaling.beta_slow);
    scaling.truncate = rope.flag("truncate").value_or(true);
    const double mscale = rope.number("mscale").value_or(0);
    const double mscale_all_dim = rope.number("mscale_all_dim").value_or(0);
    if (const auto attention_factor = rope.number("attention_factor")) {
        if (*attention_factor < 0) rope.fail("attention_factor", *attention_factor, "must not be negative");
        scaling.attention_factor = *attention_factor;
    } else if (mscale != 0 && mscale_all_dim != 0) {
        scaling.attention_factor = yarn_scale(scaling.factor, mscale) / yarn_scale(scaling.factor, mscale_all_dim);
        // A negative one would mean here that none is given.
        if (!(scaling.attention_factor >= 0)) rope.fail("mscale", mscale, "makes a negative attention factor");
    }
}

void read_llama3(const JsonObject& rope, RopeScaling& scaling) {
    scaling.type = RopeScaling::Type::llama3;
    scaling.factor = rope.required_number("factor");
    scaling.low_frequency_factor = rope.required_number("low_freq_factor");
    scaling.high_frequency_factor = rope.required_number("high_freq_factor");
    if (!(scaling.low_frequency_factor < scaling.high_frequency_factor)) {
        rope.fail("low_freq_factor", scaling.low_frequency_factor,
                  "must be below high_freq_factor, which is " + std::to_string(scaling.high_frequency_factor));
    }
}

// rope_scaling of older files, rope_parameters since transformers 5; the base stands in either or beside them.
void read_rope(const JsonObject& object, Config& config) {
    config.rope_base = object.number("rope_theta").value_or(10000);
    const char* key = "rope_scaling";
    const nlohmann::json* value = object.find(key);
    if (value == nullptr || value->empty()) value = object.find(key = "rope_parameters");
    if (value == nullptr) return;
    const JsonObject rope(*value, object.path(), std::string(key) + ".");
    for (const auto& [name, entry] : value->items()) {
        if (entry.is_object()) rope.fail(name, entry, "rotary parameters for each kind of layer are not supported");
    }
    config.rope_base = rope.number("rope_theta").value_or(config.rope_base);
    if (rope.number("partial_rotary_factor").value_or(1) != 1) {
        rope.fail("partial_rotary_factor", *rope.find("partial_rotary_factor"), "must be 1");
    }
    const char* const type_key = rope.find("rope_type") != nullptr ? "rope_type" : "type";
    const std::string type = rope.text(type_key).value_or("default");
    if (type == "default") return;
    RopeScaling& scaling = config.rope_scaling;
    // The whole model's stands before that of the rotary parameters, as in transformers.
    scaling.original_context = object.whole("original_max_position_embeddings")
                                   .value_or(rope.whole("original_max_position_embeddings").value_or(config.context));
    if (scaling.original_context < 1) {
        rope.fail("original_max_position_embeddings", scaling.original_context, "must be at least 1");
    }
    if (type == "linear" || type == "dynamic") {
        scaling.type = type == "linear" ? RopeScaling::Type::linear : RopeScaling::Type::dynamic;
        scaling.factor = rope.required_number("factor");
    } else if (type == "yarn") {
        read_yarn(rope, scaling, config.context);
    } else if (type == "llama3") {
        read_llama3(rope, scaling);
    } else {
        rope.fail(type_key, type, "supported are default, linear, dynamic, yarn, llama3");
    }
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
    const JsonObject object(json, path);
    const Architecture& architecture = find_architecture(object);
    HuggingFaceConfig result{{}, architecture.family};
    Config& config = result.config;
    check_arithmetic(object);
    config.dim = object.required_whole("hidden_size");
    config.hidden = object.required_whole("intermediate_size");
    config.layers = object.required_whole("num_hidden_layers");
    config.heads = object.required_whole("num_attention_heads");
    config.vocabulary = object.required_whole("vocab_size");
    const bool kv_default = !object.has("num_key_value_heads") && architecture.kv_heads > 0;
    config.kv_heads = object.whole("num_key_value_heads").value_or(kv_default ? architecture.kv_heads : config.heads);
    config.context = object.whole("max_position_embeddings").value_or(architecture.context);
    config.norm_epsilon = object.number("rms_norm_eps").value_or(1e-6);
    config.shared_classifier = object.flag("tie_word_embeddings").value_or(false);
    config.attention_bias =
        result.family == "Qwen2" || (result.family == "Llama" && object.flag("attention_bias").value_or(false));
    config.rope_pairing = freqkv::RopePairing::half_split;
    if (const auto head_dim = object.whole("head_dim")) {
        config.head_dim = *head_dim;
    } else {
        if (config.heads < 1 || config.dim % config.heads != 0) {
            object.fail("num_attention_heads", config.heads,
                        "must divide hidden_size, which is " + std::to_string(config.dim));
        }
        config.head_dim = config.dim / config.heads;
    }
    check_config(config, path);
    config.sliding_window = read_sliding_window(object, architecture, config);
    read_rope(object, config);
    check_config(config, path);
    read_special_tokens(object, architecture, config);
    return result;
}

void add_end_of_text(Config& config, const nlohmann::json& generation_config, const std::string& path) {
    add_end_of_text(JsonObject(generation_config, path), config);
}

}  // namespace llama
