// SPDX-License-Identifier: MIT
#include "llama/formats/adapter_config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"

namespace llama {

namespace {

// Each would change what the matrices mean.
constexpr std::array refused = {
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "layer_replication",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "megatron_config",
    "alora_invocation_tokens",
};

// What the numbers in the file do not depend on. The tensors say themselves which modules they belong to; PEFT itself
// takes no notice of fan_in_fan_out in the layers of these models; the rest is about training or the base's origin.
constexpr std::array ignored = {
    "auto_mapping",   "base_model_name_or_path", "corda_config",   "eva_config",          "exclude_modules",
    "fan_in_fan_out", "inference_mode",          "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_dropout",   "lora_ga_config",          "megatron_core",  "peft_version",        "qalora_group_size",
    "revision",       "runtime_config",          "target_modules", "task_type",           "velora_config",
};

constexpr std::array read = {
    "alpha_pattern", "bias", "ensure_weight_tying", "init_lora_weights",       "lora_alpha", "modules_to_save",
    "peft_type",     "r",    "rank_pattern",        "trainable_token_indices", "use_rslora",
};

bool is_unset(const nlohmann::json& value) {
    return value.is_null() || value == false || (value.is_structured() && value.empty());
}

void check_supported(const JsonObject& object) {
    for (const char* const key : refused) {
        const nlohmann::json* const value = object.find(key);
        if (value != nullptr && !is_unset(*value)) object.fail(key, *value, "not supported");
    }
    const std::string bias = object.text("bias").value_or("none");
    if (bias != "none") object.fail("bias", bias, "must be \"none\"");
    // Other ways to begin change the model's own weights before the training.
    if (const nlohmann::json* const init = object.find("init_lora_weights")) {
        const bool plain =
            init->is_boolean() || *init == "gaussian" || *init == "orthogonal" || *init == "eva" || *init == "mica";
        if (!plain) {
            object.fail("init_lora_weights", *init,
                        "must be true, false, gaussian, orthogonal, eva or mica; PEFT converts others when it saves");
        }
    }
}

void note_unknown(const nlohmann::json& json, const std::string& path) {
    int left = 8;  // more would hide what is said of the rest
    for (const auto& [key, value] : json.items()) {
        const auto is_key = [&name = key](const char* known) { return name == known; };
        const bool known = std::ranges::any_of(refused, is_key) || std::ranges::any_of(ignored, is_key) ||
                           std::ranges::any_of(read, is_key);
        if (!known && !is_unset(value) && left-- > 0) {
            std::fprintf(stderr, "freqkv-llama: note: %s: the field %s is unknown and ignored\n", path.c_str(),
                         in_quotes(key).c_str());
        }
    }
}

// The numbers of an object in the order of the file, which a parsed object does not keep.
struct NumbersInOrder {
    static constexpr std::size_t most_patterns = 65536;

    std::string path;
    std::string field;
    std::vector<std::pair<std::string, double>> numbers{};
    std::set<std::string> keys{};

    JsonMembers members() {
        const auto take = [this](const std::string& key, const nlohmann::json& value) {
            if (numbers.size() == most_patterns) {
                throw FileError(path, field + " has more than " + std::to_string(most_patterns) + " keys");
            }
            const nlohmann::json pattern{{key, value}};
            numbers.emplace_back(key, JsonObject(pattern, path, field + ".").required_number(key));
            return keys.insert(key).second;
        };
        return {"/" + field, JsonMembers::Of::object, take};
    }
};

std::vector<std::string> texts(const JsonObject& object, const char* key) {
    const nlohmann::json* const value = object.find(key);
    if (value == nullptr) return {};
    const auto is_text = [](const nlohmann::json& element) { return element.is_string(); };
    if (!value->is_array() || !std::ranges::all_of(*value, is_text)) {
        object.fail(key, *value, "must be a list of names");
    }
    return value->get<std::vector<std::string>>();
}

std::vector<Index> ids(const JsonObject& object, const std::string& key, const nlohmann::json& value) {
    if (!value.is_array()) object.fail(key, value, "must be a list of token ids");
    std::vector<Index> tokens;
    for (const nlohmann::json& element : value) {
        const Index token = JsonObject::as_whole(element).value_or(-1);
        if (token < 0 || token > std::numeric_limits<Token>::max()) object.fail(key, element, "must be token ids");
        tokens.push_back(token);
    }
    return tokens;
}

}  // namespace

AdapterConfig::AdapterConfig(const std::string& path) : path_(path) {
    NumbersInOrder ranks{path, "rank_pattern"};
    NumbersInOrder alphas{path, "alpha_pattern"};
    const JsonMembers in_order[] = {ranks.members(), alphas.members()};
    const nlohmann::json json = read_json(path, std::size_t{64} << 20, in_order);
    const JsonObject object(json, path_);
    const std::string type = object.required("peft_type", object.text("peft_type"));
    if (type != "LORA") object.fail("peft_type", type, "must be \"LORA\"");
    check_supported(object);
    note_unknown(json, path_);
    rank_ = object.required_whole("r");
    alpha_ = object.required_number("lora_alpha");
    root_of_rank_ = object.flag("use_rslora").value_or(false);
    keeps_tied_ = object.flag("ensure_weight_tying").value_or(false);
    for (const NumbersInOrder* const patterns : {&ranks, &alphas}) {
        const nlohmann::json* const value = object.find(patterns->field);
        if (value != nullptr) JsonObject(*value, path_, patterns->field + ".");  // an object
    }
    ranks_ = ModulePatterns(path_, ranks.field, ranks.numbers);
    alphas_ = ModulePatterns(path_, alphas.field, alphas.numbers);
    modules_to_save_ = texts(object, "modules_to_save");
    const std::string field = "trainable_token_indices";
    if (const nlohmann::json* const tokens = object.find(field); tokens != nullptr && tokens->is_object()) {
        const JsonObject by_module(*tokens, path_, field + ".");
        for (const auto& [module, value] : tokens->items()) tokens_.emplace_back(module, ids(by_module, module, value));
    } else if (tokens != nullptr) {
        tokens_.emplace_back("embed_tokens", ids(object, field, *tokens));
    }
}

double AdapterConfig::scale(std::string_view module) const {
    const Index rank = this->rank(module);
    const double alpha = alphas_.find(module).value_or(alpha_);
    return alpha / (root_of_rank_ ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

Index AdapterConfig::rank(std::string_view module) const {
    const double rank = ranks_.find(module).value_or(static_cast<double>(rank_));
    if (!(rank >= 1 && rank <= 1 << 20 && rank == std::floor(rank))) {
        throw FileError(path_, "the rank of " + in_quotes(module) + " is " + std::to_string(rank) +
                                   ", must be a whole number of at least 1");
    }
    return static_cast<Index>(rank);
}

bool AdapterConfig::saves(std::string_view module) const {
    return std::ranges::any_of(modules_to_save_, [&](const std::string& end) { return module.ends_with(end); });
}

const std::vector<Index>* AdapterConfig::tokens_of(std::string_view module) const {
    for (const auto& [end, tokens] : tokens_) {
        if (module.ends_with(end)) return &tokens;
    }
    constexpr std::string_view embedding = "model.embed_tokens";
    return module == embedding ? nullptr : tokens_of(embedding);
}

}  // namespace llama
