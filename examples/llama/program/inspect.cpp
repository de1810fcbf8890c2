// SPDX-License-Identifier: MIT
#include <algorithm>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/open_checkpoint.hpp"
#include "llama/io/format.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/model/features.hpp"
#include "llama/program/budgets.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

// One row of the table: the name of a cache and its size in each type.
struct Row {
    std::string name;
    CacheSizes sizes;
};

std::vector<Row> rows_for(const Config& config, const CacheSettings& settings) {
    std::vector<Row> rows;
    if (!settings.grows()) {
        for (const PolicyName policy : all_of<PolicyName>) {
            const PolicyTraits traits = traits_of(policy);
            if (!traits.grows && traits.use != PolicyUse::training) rows.push_back({traits.name, settings.sizes});
        }
    }
    for (const Index factor : {1, 4, 16, 64}) {
        const Index length = factor * config.context;
        rows.push_back({"full, " + std::to_string(length) + " tokens", {length}});
    }
    return rows;
}

const char* name_of(RopeScaling::Type type) {
    switch (type) {
        case RopeScaling::Type::linear:
            return "linear";
        case RopeScaling::Type::yarn:
            return "yarn";
        case RopeScaling::Type::llama3:
            return "llama3";
        case RopeScaling::Type::dynamic:
            return "dynamic";
        case RopeScaling::Type::longrope:
            return "longrope";
        case RopeScaling::Type::none:
            break;
    }
    return "none";
}

std::string describe_positions(const Config& config) {
    std::string text = "positions   rotary, base " + format("%g", config.rope_base);
    const RopeScaling& scaling = config.rope_scaling;
    if (scaling.type != RopeScaling::Type::none) {
        text += std::string(", scaling ") + name_of(scaling.type);
        if (scaling.type != RopeScaling::Type::longrope) text += " by " + format("%g", scaling.factor);
    }
    if (!scaling.divisors.empty()) text += ", frequencies divided as the file lists";
    if (config.rotation() != config.head_dim) {
        text += ", of " + std::to_string(config.rotation()) + " dimensions of a head";
    }
    if (config.sliding_window > 0) text += ", sliding window of " + std::to_string(config.sliding_window);
    text += "\n";
    const auto layers = [&](const std::vector<bool>& which) {
        return std::to_string(std::count(which.begin(), which.end(), true)) + " of " + std::to_string(config.layers) +
               " layers";
    };
    if (config.count_local_layers() > 0) {
        text += "windows     of " + std::to_string(config.local_window) + " tokens in " + layers(config.local_layers);
        if (config.local_rope_base > 0) text += ", rotary base " + format("%g", config.local_rope_base) + " there";
        text += "\n";
    }
    if (has(config, Feature::unrotated_layers)) text += "no rotation in " + layers(config.unrotated_layers) + "\n";
    return text;
}

std::string describe_model(const Checkpoint& checkpoint) {
    const Config& c = checkpoint.config;
    const auto number = [](Index value) { return std::to_string(value); };
    return "model       " + checkpoint.path + " (" + checkpoint.format + ")\n" +  //
           "parameters  " + number(count_parameters(checkpoint.config)) + "\n" +  //
           "layers      " + number(c.layers) + " of width " + number(c.dim) + ", feed-forward width " +
           number(c.hidden) + "\n" +  //
           "heads       " + number(c.heads) + " for queries, " + number(c.kv_heads) + " for keys and values, of " +
           number(c.head_dim) + " dimensions\n" +  //
           "vocabulary  " + number(c.vocabulary) + " tokens, " +
           (c.shared_classifier ? "embedding shared with the output" : "separate output projection") + "\n" +  //
           describe_positions(c) +                                                                             //
           "trained on  " + number(c.context) + " tokens\n";
}

std::string describe_settings(const Config& config, const CacheSettings& settings) {
    if (settings.grows()) return "the cache grows with the text\n";
    const auto number = [](Index value) { return std::to_string(value); };
    const std::string parts = ", sinks " + number(settings.sizes.sinks) + ", recent " + number(settings.sizes.recent) +
                              ", ratio " + format("%g", settings.ratio);
    const Index bytes = cache_bytes(config, settings.sizes, settings.type);
    const Index beside = Bookkeeping(config, settings.policy, settings.sizes.weighted).bytes(config, settings.sizes);
    const std::string held = "in all " + format_bytes(bytes + beside) + " under " + to_string(settings.policy) + ", " +
                             to_string(settings.type) + ": " + format_bytes(bytes) + " of keys and values, " +
                             format_bytes(beside) + " beside them\n";
    if (settings.sizes.head_capacities.empty()) {
        return "capacity " + number(settings.sizes.capacity) + parts + ": a compression turns " +
               number(settings.span()) + " entries into " + number(settings.kept()) + ", once every " +
               number(settings.span() - settings.kept()) + " tokens\n" + held;
    }
    Index least = settings.sizes.capacity;
    for (const std::vector<Index>& layer : settings.sizes.head_capacities) {
        for (const Index capacity : layer) least = std::min(least, capacity);
    }
    return "capacities from " + number(least) + " to " + number(settings.sizes.capacity) + parts + "\n" + held;
}

}  // namespace

int inspect(const InspectOptions& options) {
    const Checkpoint checkpoint = open_checkpoint(options.model);
    const Config& config = checkpoint.config;
    check_budgets(options, checkpoint);
    const CacheSettings settings = resolve(options, config, config.context);
    const JsonOutput json(options.json);
    const std::vector<Row> rows = rows_for(config, settings);

    nlohmann::ordered_json object{{"model", checkpoint.path},
                                  {"format", checkpoint.format},
                                  {"parameters", count_parameters(checkpoint.config)},
                                  {"dim", config.dim},
                                  {"hidden_dim", config.hidden},
                                  {"layers", config.layers},
                                  {"heads", config.heads},
                                  {"kv_heads", config.kv_heads},
                                  {"head_dim", config.head_dim},
                                  {"vocabulary", config.vocabulary},
                                  {"shared_classifier", config.shared_classifier},
                                  {"rope_base", config.rope_base},
                                  {"rope_scaling", name_of(config.rope_scaling.type)},
                                  {"sliding_window", config.sliding_window},
                                  {"local_layers", config.count_local_layers()},
                                  {"local_window", config.local_window},
                                  {"context", config.context}};
    object.update(to_json(settings));
    if (!settings.grows()) {
        object["bookkeeping_bytes"] =
            Bookkeeping(config, settings.policy, settings.sizes.weighted).bytes(config, settings.sizes);
    }
    std::string table = format("%-26s", "bytes of keys and values");
    for (const CacheType type : all_of<CacheType>) table += format("%12s", to_string(type));
    table += "\n";
    for (const Row& row : rows) {
        table += format("  %-24s", row.name.c_str());
        nlohmann::ordered_json sizes{{"cache", row.name}, {"entries", row.sizes.capacity}};
        for (const CacheType type : all_of<CacheType>) {
            const Index bytes = cache_bytes(config, row.sizes, type);
            table += format("%12s", format_bytes(bytes).c_str());
            sizes[to_string(type)] = bytes;
        }
        table += "\n";
        object["cache_bytes"].push_back(sizes);
    }
    json.write(object);
    if (!json.takes_stdout())
        TextOutput().write(describe_model(checkpoint) + "\n" + describe_settings(config, settings) + table);
    return 0;
}

}  // namespace llama
