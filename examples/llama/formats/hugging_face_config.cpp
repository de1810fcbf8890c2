// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_config.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/hugging_face_rope.hpp"
#include "llama/io/json_object.hpp"

namespace llama {

namespace {

enum class Family : std::uint8_t { llama, mistral, qwen2, qwen3, smollm3, phi3, gemma2, gemma3 };

// What transformers takes where config.json is silent.
struct Architecture {
    Family family;
    const char* name;
    const char* model_type;
    const char* title;
    Index context;
    Index kv_heads;        // 0: as many as there are query heads
    Index sliding_window;  // 0: none
    Token begin_of_text;   // -1: none
    Token end_of_text;     // -1: none
    Index head_dim = 0;    // 0: the width divided by the heads
    bool tied = false;
    double epsilon = 1e-6;
    RopeDefaults rope{};

    bool is_gemma() const { return family == Family::gemma2 || family == Family::gemma3; }
};

constexpr Architecture architectures[] = {
    {Family::llama, "LlamaForCausalLM", "llama", "Llama", 2048, 0, 0, 1, 2},
    {Family::mistral, "MistralForCausalLM", "mistral", "Mistral", 131072, 8, 4096, 1, 2},
    {Family::qwen2, "Qwen2ForCausalLM", "qwen2", "Qwen2", 32768, 32, 4096, -1, -1},
    {Family::qwen3, "Qwen3ForCausalLM", "qwen3", "Qwen3", 32768, 32, 4096, -1, -1, 128},
    {Family::smollm3,
     "SmolLM3ForCausalLM",
     "smollm3",
     "SmolLM3",
     32768,
     4,
     0,
     128000,
     128001,
     0,
     true,
     1e-6,
     {.base = 2e6}},
    {Family::phi3,
     "Phi3ForCausalLM",
     "phi3",
     "Phi-3",
     4096,
     0,
     0,
     1,
     32000,
     0,
     false,
     1e-5,
     {.partial = true, .longrope_only = true, .original_context = 4096}},
    {Family::gemma2, "Gemma2ForCausalLM", "gemma2", "Gemma 2", 8192, 4, 4096, 2, 1, 256, true},
    {Family::gemma3,
     "Gemma3ForCausalLM",
     "gemma3_text",
     "Gemma 3",
     131072,
     4,
     4096,
     2,
     1,
     256,
     true,
     1e-6,
     {.base = 1e6, .local_base = 1e4}},
};

template <class Member>
std::string list_of(Member member) {
    std::string list;
    for (const Architecture& architecture : architectures) {
        list += (list.empty() ? "" : ", ") + std::string(architecture.*member);
    }
    return list;
}

const Architecture& find_architecture(const JsonObject& object) {
    if (const nlohmann::json* const names = object.find("architectures")) {
        const bool named = names->is_array() && !names->empty() && names->front().is_string();
        if (!named) object.fail("architectures", *names, "must be a list of names");
        for (const Architecture& architecture : architectures) {
            if (names->front() == architecture.name) return architecture;
        }
        object.fail("the architecture", names->front(), "supported are " + list_of(&Architecture::name));
    }
    const std::string type = object.required("architectures", object.text("model_type"));
    for (const Architecture& architecture : architectures) {
        if (type == architecture.model_type) return architecture;
    }
    object.fail("model_type", type, "supported are " + list_of(&Architecture::model_type));
}

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

void read_unrotated_layers(const JsonObject& object, Config& config) {
    const auto layers = static_cast<std::size_t>(config.layers);
    config.unrotated_layers.assign(layers, false);
    if (const nlohmann::json* const rotated = object.find("no_rope_layers")) {
        if (!rotated->is_array() || rotated->size() < layers) {
            object.fail("no_rope_layers", *rotated,
                        "must be a list with a number for each of the " + std::to_string(layers) + " layers");
        }
        for (std::size_t l = 0; l < layers; ++l) {
            const Index turns = JsonObject::as_whole((*rotated)[l]).value_or(-1);
            if (turns != 0 && turns != 1) object.fail("no_rope_layers", (*rotated)[l], "must be 0 or 1");
            config.unrotated_layers[l] = turns == 0;
        }
        return;
    }
    const Index interval = object.whole("no_rope_layer_interval").value_or(4);
    if (interval < 1) object.fail("no_rope_layer_interval", interval, "must be at least 1");
    for (std::size_t l = 0; l < layers; ++l) config.unrotated_layers[l] = (static_cast<Index>(l) + 1) % interval == 0;
}

// The layers with a window: as layer_types lists them, or as the architecture has them where it does not.
std::vector<bool> read_layer_types(const JsonObject& object, const Architecture& architecture, const Config& config) {
    std::vector<bool> sliding(static_cast<std::size_t>(config.layers), false);
    if (const nlohmann::json* const kinds = object.find("layer_types")) {
        const auto count = [&](const char* kind) {
            return kinds->is_array() ? std::count(kinds->begin(), kinds->end(), kind) : 0;
        };
        if (!kinds->is_array() || static_cast<Index>(kinds->size()) != config.layers ||
            count("sliding_attention") + count("full_attention") != config.layers) {
            object.fail("layer_types", *kinds,
                        "must say full_attention or sliding_attention for each of the " +
                            std::to_string(config.layers) + " layers");
        }
        for (std::size_t l = 0; l < sliding.size(); ++l) sliding[l] = (*kinds)[l] == "sliding_attention";
        return sliding;
    }
    const auto at_least = [&](const char* key, Index otherwise, Index least) {
        const Index value = object.whole(key).value_or(otherwise);
        if (value < least) object.fail(key, value, "must be at least " + std::to_string(least));
        return value;
    };
    switch (architecture.family) {
        case Family::llama:
            break;
        case Family::mistral:
        case Family::phi3:
            sliding.assign(sliding.size(), true);
            break;
        case Family::qwen2:
        case Family::qwen3: {
            const Index full = at_least("max_window_layers", 28, 0);
            for (Index l = full; l < config.layers; ++l) sliding[static_cast<std::size_t>(l)] = true;
            break;
        }
        case Family::smollm3:
            sliding = config.unrotated_layers;
            break;
        case Family::gemma2:
        case Family::gemma3: {
            const Index period = architecture.family == Family::gemma2 ? 2 : at_least("sliding_window_pattern", 6, 1);
            for (std::size_t l = 0; l < sliding.size(); ++l) sliding[l] = (static_cast<Index>(l) + 1) % period != 0;
            break;
        }
    }
    return sliding;
}

// The same window in all layers bounds the cache; in some of them, these have caches of their own.
void read_windows(const JsonObject& object, const Architecture& architecture, Config& config) {
    const Family family = architecture.family;
    const bool asks = family == Family::qwen2 || family == Family::qwen3 || family == Family::smollm3;
    if (family == Family::llama || (asks && !object.flag("use_sliding_window").value_or(false))) return;
    const Index window =
        object.has("sliding_window") ? object.whole("sliding_window").value_or(0) : architecture.sliding_window;
    if (object.find("sliding_window") != nullptr && window < 1) {
        object.fail("sliding_window", window, "must be at least 1, or null");
    }
    std::vector<bool> sliding = read_layer_types(object, architecture, config);
    const Index count = std::count(sliding.begin(), sliding.end(), true);
    if (count == 0) return;
    if (window == 0) {
        if (!architecture.is_gemma()) return;
        object.fail("sliding_window", nullptr, "must be a number, for there are layers with a window");
    }
    if (count == config.layers && !architecture.is_gemma()) {
        config.sliding_window = window;
    } else {
        config.local_layers = std::move(sliding);
        config.local_window = window;
    }
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
    config.embedding_scale = static_cast<double>(std::sqrt(static_cast<float>(config.dim)));
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
    const JsonObject object(json, path);
    const Architecture& architecture = find_architecture(object);
    const Family family = architecture.family;
    HuggingFaceConfig result{{}, architecture.title};
    Config& config = result.config;
    check_arithmetic(object, family);
    config.dim = object.required_whole("hidden_size");
    config.hidden = object.required_whole("intermediate_size");
    config.layers = object.required_whole("num_hidden_layers");
    config.heads = object.required_whole("num_attention_heads");
    config.vocabulary = object.required_whole("vocab_size");
    const bool kv_default = !object.has("num_key_value_heads") && architecture.kv_heads > 0;
    config.kv_heads = object.whole("num_key_value_heads").value_or(kv_default ? architecture.kv_heads : config.heads);
    config.context = object.whole("max_position_embeddings").value_or(architecture.context);
    config.norm_epsilon = object.number("rms_norm_eps").value_or(architecture.epsilon);
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
    if (family == Family::smollm3) read_unrotated_layers(object, config);
    read_windows(object, architecture, config);
    if (architecture.is_gemma()) read_gemma(object, family, config);
    read_hugging_face_rope(object, architecture.rope, config);
    // Without local layers nothing is left to turn by their base.
    if (config.count_local_layers() == 0) config.local_rope_base = 0;
    check_config(config, path);
    read_special_tokens(object, architecture, config);
    return result;
}

void add_end_of_text(Config& config, const nlohmann::json& generation_config, const std::string& path) {
    add_end_of_text(JsonObject(generation_config, path), config);
}

}  // namespace llama
