// SPDX-License-Identifier: MIT
#include "llama/formats/head_budgets.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include <nlohmann/json.hpp>

#include "llama/io/file.hpp"
#include "llama/io/format.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"

namespace llama {

namespace {

// So that the entries of as many layers and heads as there can be fit 64 bits.
constexpr Index most_entries = Index{1} << 32;

std::uint64_t parse_fingerprint(const std::string& digits, const JsonObject& file) {
    std::uint64_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [parsed, error] = std::from_chars(digits.data(), end, value, 16);
    if (digits.size() != 16 || error != std::errc{} || parsed != end) {
        file.fail("weights", digits, "must be 16 hexadecimal digits");
    }
    return value;
}

std::vector<Index> read_layer(const nlohmann::json& layer, Index heads, const std::string& path,
                              const std::string& name) {
    const JsonObject object(layer, path, name + ".");
    const nlohmann::json* const list = object.find("capacities");
    if (list == nullptr || !list->is_array()) throw FileError(path, name + ".capacities is no list");
    if (static_cast<Index>(list->size()) != heads) {
        throw FileError(path, name + ".capacities has " + std::to_string(list->size()) + " numbers, the model " +
                                  std::to_string(heads) + " heads there that see the whole text");
    }
    std::vector<Index> capacities;
    for (const nlohmann::json& value : *list) {
        const std::optional<Index> capacity = JsonObject::as_whole(value);
        if (!capacity || *capacity < 1 || *capacity > most_entries) {
            object.fail("capacities", value, "must be whole numbers from 1 to " + std::to_string(most_entries));
        }
        capacities.push_back(*capacity);
    }
    return capacities;
}

}  // namespace

Index HeadBudgets::largest_capacity() const {
    Index largest = 0;
    for (const std::vector<Index>& layer : capacities) {
        for (const Index capacity : layer) largest = std::max(largest, capacity);
    }
    return largest;
}

HeadBudgets read_head_budgets(const std::string& path, const Config& config) {
    const nlohmann::json json = read_json(path);
    if (!json.is_object() || !json.contains("layers") || !json.contains("weights")) {
        throw FileError(path, "no budgets of freqkv-llama calibrate");
    }
    const JsonObject file(json, path);
    HeadBudgets budgets;
    budgets.weights = parse_fingerprint(file.required("weights", file.text("weights")), file);
    const auto count = [&](const char* key) {
        const Index value = file.required_whole(key);
        if (value < 0 || value > most_tokens) file.fail(key, value, "must be 0 to " + std::to_string(most_tokens));
        return value;
    };
    budgets.sinks = count("sinks");
    budgets.recent = count("recent");
    budgets.ratio = file.required_number("ratio");
    if (!(budgets.ratio > 0 && budgets.ratio < 1)) {
        file.fail("ratio", budgets.ratio, "must be between 0 and 1, both excluded");
    }
    const nlohmann::json& layers = json["layers"];
    if (!layers.is_array()) throw FileError(path, "layers is no list");
    if (static_cast<Index>(layers.size()) != config.layers) {
        throw FileError(path, "it is for " + std::to_string(layers.size()) + " layers, the model has " +
                                  std::to_string(config.layers));
    }
    budgets.capacities.reserve(layers.size());
    for (Index l = 0; l < config.layers; ++l) {
        const Index heads = config.kind(l).local ? 0 : config.kv_heads;
        budgets.capacities.push_back(
            read_layer(layers[static_cast<std::size_t>(l)], heads, path, "layers[" + std::to_string(l) + "]"));
    }
    if (budgets.largest_capacity() == 0) throw FileError(path, "no layer of the model sees the whole text");
    return budgets;
}

std::string fingerprint_digits(std::uint64_t fingerprint) {
    return format("%016llx", static_cast<unsigned long long>(fingerprint));
}

}  // namespace llama
