// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_layers.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace llama {

namespace {

using Family = HuggingFaceFamily;
using Architecture = HuggingFaceArchitecture;

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
    const bool same_in_all = architecture.family == Family::mistral || architecture.family == Family::phi3;
    if (const nlohmann::json* const kinds = object.find("layer_types"); kinds != nullptr && !same_in_all) {
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

}  // namespace

void read_hugging_face_layers(const JsonObject& object, const HuggingFaceArchitecture& architecture, Config& config) {
    if (architecture.family == Family::smollm3) read_unrotated_layers(object, config);
    read_windows(object, architecture, config);
}

}  // namespace llama
