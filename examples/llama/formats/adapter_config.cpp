// SPDX-License-Identifier: MIT
#include "llama/formats/adapter_config.hpp"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"

namespace llama {

namespace {

void check_supported(const JsonObject& object) {
    // Each would change what the matrices mean.
    for (const char* const key :
         {"fan_in_fan_out", "use_dora", "lora_bias", "use_qalora", "use_bdlora", "layer_replication",
          "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "kasa_config",
          "monteclora_config", "megatron_config"}) {
        const nlohmann::json* const value = object.find(key);
        const bool unset = value == nullptr || *value == false || (value->is_structured() && value->empty());
        if (!unset) object.fail(key, *value, "not supported");
    }
    const std::string bias = object.text("bias").value_or("none");
    if (bias != "none") object.fail("bias", bias, "must be \"none\"");
    // Other ways to begin change the model's own weights before the training.
    if (const nlohmann::json* const init = object.find("init_lora_weights")) {
        const bool plain = init->is_boolean() || *init == "gaussian" || *init == "orthogonal" || *init == "eva";
        if (!plain) {
            object.fail("init_lora_weights", *init,
                        "must be true, false, gaussian, orthogonal or eva; PEFT converts others when it saves");
        }
    }
}

// All patterns are looked at for each module.
void check_size(const JsonObject& object, const char* key) {
    constexpr std::size_t most = 16384;
    const nlohmann::json* const value = object.find(key);
    if (value != nullptr && value->size() > most) {
        throw FileError(object.path(), std::string(key) + " has " + std::to_string(value->size()) +
                                           " entries, at most " + std::to_string(most) + " are read");
    }
}

}  // namespace

AdapterConfig::AdapterConfig(const std::string& path) : path_(path), json_(read_json(path)) {
    const JsonObject object(json_, path_);
    const std::string type = object.required("peft_type", object.text("peft_type"));
    if (type != "LORA") object.fail("peft_type", type, "must be \"LORA\"");
    check_supported(object);
    for (const char* const key : {"rank_pattern", "alpha_pattern"}) check_size(object, key);
    rank_ = object.required_whole("r");
    alpha_ = object.required_number("lora_alpha");
    root_of_rank_ = object.flag("use_rslora").value_or(false);
    keeps_tied_ = object.flag("ensure_weight_tying").value_or(false);
}

double AdapterConfig::scale(std::string_view module) const {
    const Index rank = this->rank(module);
    const double alpha = number_of("alpha_pattern", module).value_or(alpha_);
    return alpha / (root_of_rank_ ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

Index AdapterConfig::rank(std::string_view module) const {
    const double rank = number_of("rank_pattern", module).value_or(static_cast<double>(rank_));
    if (!(rank >= 1 && rank <= 1 << 20 && rank == std::floor(rank))) {
        throw FileError(path_, "the rank of " + in_quotes(module) + " is " + std::to_string(rank) +
                                   ", must be a whole number of at least 1");
    }
    return static_cast<Index>(rank);
}

// The keys are regular expressions for PEFT that have to match behind a dot; in practice they are names.
std::optional<double> AdapterConfig::number_of(const char* pattern, std::string_view module) const {
    const JsonObject config(json_, path_);
    const nlohmann::json* const value = config.find(pattern);
    if (value == nullptr) return std::nullopt;
    const JsonObject patterns(*value, path_, std::string(pattern) + ".");
    std::optional<double> result;
    for (const auto& [key, entry] : value->items()) {
        std::string_view name = key;
        const bool from_start = name.starts_with('^');
        if (from_start) name.remove_prefix(1);
        const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
        });
        if (!plain || name.empty()) patterns.fail(key, entry, "but regular expressions are not supported as keys");
        const double number = patterns.required_number(key);
        const bool within = module.size() > name.size() && module[module.size() - name.size() - 1] == '.';
        const bool matches = module == name || (!from_start && within && module.ends_with(name));
        if (!matches) continue;
        if (result && *result != number) {
            patterns.fail(key, entry, "but another key fits " + in_quotes(module) + ", too");
        }
        result = number;
    }
    return result;
}

}  // namespace llama
