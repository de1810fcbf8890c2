// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_rope.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace llama {

namespace {

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

std::vector<double> read_divisors(const JsonObject& rope, const char* key, Index count) {
    const nlohmann::json list =
        rope.required(key, rope.find(key) == nullptr ? std::nullopt : std::optional(*rope.find(key)));
    if (!list.is_array() || static_cast<Index>(list.size()) != count) {
        rope.fail(key, list,
                  "must be a list of " + std::to_string(count) + " numbers, half of the dimensions that turn");
    }
    std::vector<double> divisors;
    for (const nlohmann::json& divisor : list) {
        if (!divisor.is_number() || !(divisor.get<double>() > 0)) rope.fail(key, divisor, "must be positive");
        divisors.push_back(divisor.get<double>());
    }
    return divisors;
}

void read_longrope(const JsonObject& rope, Config& config) {
    RopeScaling& scaling = config.rope_scaling;
    scaling.type = RopeScaling::Type::longrope;
    scaling.divisors = read_divisors(rope, "short_factor", config.rotation() / 2);
    scaling.long_divisors = read_divisors(rope, "long_factor", config.rotation() / 2);
    const auto original = static_cast<double>(scaling.original_context);
    const double factor = rope.number("factor").value_or(static_cast<double>(config.context) / original);
    if (scaling.original_context < 2) {
        rope.fail("original_max_position_embeddings", scaling.original_context, "must be at least 2 for longrope");
    }
    if (const auto attention_factor = rope.number("attention_factor")) {
        if (*attention_factor < 0) rope.fail("attention_factor", *attention_factor, "must not be negative");
        scaling.attention_factor = *attention_factor;
    } else {
        scaling.attention_factor = factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(original)) : 1;
    }
}

void read_scaling(const JsonObject& object, const JsonObject& rope, const RopeDefaults& defaults, Config& config) {
    const char* const type_key = rope.find("rope_type") != nullptr ? "rope_type" : "type";
    const std::string type = rope.text(type_key).value_or("default");
    if (type == "default") return;
    RopeScaling& scaling = config.rope_scaling;
    // The whole model's stands before that of the rotary parameters, as in transformers.
    const Index missing = defaults.original_context > 0 ? defaults.original_context : config.context;
    scaling.original_context = object.whole("original_max_position_embeddings")
                                   .value_or(rope.whole("original_max_position_embeddings").value_or(missing));
    if (scaling.original_context < 1) {
        rope.fail("original_max_position_embeddings", scaling.original_context, "must be at least 1");
    }
    if (type == "longrope" || (defaults.longrope_only && (type == "su" || type == "yarn"))) {
        read_longrope(rope, config);
    } else if (defaults.longrope_only) {
        rope.fail(type_key, type, "supported are default and longrope");
    } else if (type == "linear" || type == "dynamic") {
        scaling.type = type == "linear" ? RopeScaling::Type::linear : RopeScaling::Type::dynamic;
        scaling.factor = rope.required_number("factor");
    } else if (type == "yarn") {
        read_yarn(rope, scaling, config.context);
    } else if (type == "llama3") {
        read_llama3(rope, scaling);
    } else {
        rope.fail(type_key, type, "supported are default, linear, dynamic, yarn, llama3, longrope");
    }
}

// The dimensions that turn; the factor stands in either place.
void read_rotation(const JsonObject& object, const JsonObject* rope, const RopeDefaults& defaults, Config& config) {
    constexpr const char* key = "partial_rotary_factor";
    for (const JsonObject* const place : {&object, rope}) {
        if (place == nullptr) continue;
        const double factor = place->number(key).value_or(1);
        if (!defaults.partial && factor != 1) place->fail(key, factor, "must be 1");
        if (!(factor > 0 && factor <= 1)) place->fail(key, factor, "must be above 0 and at most 1");
        if (factor == 1) continue;
        config.rotated_dims = static_cast<Index>(static_cast<double>(config.head_dim) * factor);
        if (config.rotated_dims < 2 || config.rotated_dims % 2 != 0) {
            place->fail(
                key, factor,
                "must make an even number of dimensions of the " + std::to_string(config.head_dim) + " of a head");
        }
    }
}

// Parameters of their own for local layers.
void read_of_local_layers(const JsonObject& object, const JsonObject* rope, const RopeDefaults& defaults,
                          Config& config) {
    config.local_rope_base = object.number("rope_local_base_freq").value_or(defaults.local_base);
    if (rope == nullptr) return;
    config.local_rope_base = rope->number("rope_theta").value_or(config.local_rope_base);
    const std::string type = rope->text("rope_type").value_or(rope->text("type").value_or("default"));
    if (type != "default") rope->fail("rope_type", type, "must be default in layers with a window");
}

}  // namespace

void read_hugging_face_rope(const JsonObject& object, const RopeDefaults& defaults, Config& config) {
    config.rope_base = object.number("rope_theta").value_or(defaults.base);
    const char* key = "rope_scaling";
    const nlohmann::json* value = object.find(key);
    if (value == nullptr || value->empty()) value = object.find(key = "rope_parameters");
    std::optional<JsonObject> rope;
    if (value != nullptr) rope.emplace(*value, object.path(), std::string(key) + ".");
    std::optional<JsonObject> of_local_layers;
    if (defaults.local_base > 0 && rope && key == std::string("rope_parameters")) {
        if (!rope->has("full_attention") && !rope->has("sliding_attention")) {
            object.fail(key, *value, "must have full_attention and sliding_attention");
        }
        const std::string prefix = std::string(key) + ".";
        if (const nlohmann::json* const local = rope->find("sliding_attention")) {
            of_local_layers.emplace(*local, object.path(), prefix + "sliding_attention.");
        }
        value = rope->find("full_attention");
        rope.reset();
        if (value != nullptr) rope.emplace(*value, object.path(), prefix + "full_attention.");
    }
    if (rope) {
        for (const auto& [name, entry] : value->items()) {
            if (entry.is_object())
                rope->fail(name, entry, "rotary parameters for each kind of layer are not supported");
        }
        config.rope_base = rope->number("rope_theta").value_or(config.rope_base);
    }
    read_rotation(object, rope ? &*rope : nullptr, defaults, config);
    if (defaults.local_base > 0) {
        read_of_local_layers(object, of_local_layers ? &*of_local_layers : nullptr, defaults, config);
    }
    if (rope) read_scaling(object, *rope, defaults, config);
}

}  // namespace llama
