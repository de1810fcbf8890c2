// SPDX-License-Identifier: MIT
#include "llama/formats/adapter_writer.hpp"

#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

#include "llama/formats/safetensors.hpp"
#include "llama/io/atomic_file.hpp"
#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"

namespace llama {

namespace {

constexpr std::string_view embedding = "model.embed_tokens.weight";
constexpr std::string_view classifier = "lm_head.weight";
const std::string wrapped = "base_model.model.";

// PEFT takes all modules that end so: "input_layernorm", but "model.norm", since every norm ends in "norm".
std::string module_to_save(const std::string& path, std::string_view tensor) {
    constexpr std::string_view weight = ".weight";
    std::string_view module = tensor;
    if (module.ends_with(weight)) module.remove_suffix(weight.size());
    if (module.size() == tensor.size() || module.empty()) {
        throw FileError(path, "tensor " + in_quotes(tensor) + " is the weight of no module");
    }
    if (module == "model.norm") return std::string(module);
    return std::string(module.substr(module.rfind('.') + 1));
}

void check_factors(const std::string& path, const LoraFactors& factors, Index rank) {
    if (factors.a.rows == rank && factors.b.columns == rank && rank >= 1) return;
    throw FileError(path, "the factors of " + in_quotes(factors.module) + " have the ranks " +
                              std::to_string(factors.a.rows) + " and " + std::to_string(factors.b.columns) +
                              ", must be " + std::to_string(rank));
}

std::string make_config(const std::string& path, const TrainedAdapter& adapter) {
    std::set<std::string> target_modules;
    for (const LoraFactors& factors : adapter.factors) {
        target_modules.insert(factors.module.substr(factors.module.rfind('.') + 1));
    }
    std::set<std::string> modules_to_save;
    for (const TrainedTensor& tensor : adapter.tensors) modules_to_save.insert(module_to_save(path, tensor.name));
    nlohmann::json config = {
        {"peft_type", "LORA"},
        {"task_type", "CAUSAL_LM"},
        {"base_model_name_or_path", adapter.base_model},
        {"r", adapter.rank},
        {"lora_alpha", adapter.alpha},
        {"lora_dropout", 0.0},
        {"bias", "none"},
        {"target_modules", target_modules},
        {"modules_to_save", nullptr},
        {"ensure_weight_tying", adapter.shared_classifier},
        {"inference_mode", true},
    };
    if (!modules_to_save.empty()) config["modules_to_save"] = modules_to_save;
    return config.dump(2) + "\n";
}

}  // namespace

void write_adapter(const std::string& directory, const TrainedAdapter& adapter, WeightType type,
                   const std::map<std::string, std::string>& metadata) {
    const std::string path = directory + "/adapter_model.safetensors";
    std::vector<TensorToWrite> tensors;
    const auto add = [&](const std::string& name, std::vector<Index> shape, const Weights& numbers) {
        tensors.push_back({wrapped + name, std::move(shape), numbers, type});
    };
    for (const LoraFactors& factors : adapter.factors) {
        check_factors(path, factors, adapter.rank);
        add(factors.module + ".lora_A.weight", {adapter.rank, factors.a.columns}, factors.a);
        add(factors.module + ".lora_B.weight", {factors.b.rows, adapter.rank}, factors.b);
    }
    for (const TrainedTensor& tensor : adapter.tensors) {
        add(tensor.name, tensor.shape, tensor.numbers);
        // PEFT writes a shared matrix twice, and misses it under the other name if it is not there.
        if (adapter.shared_classifier && tensor.name == embedding) {
            add(std::string(classifier), tensor.shape, tensor.numbers);
        }
    }
    const std::string config = make_config(path, adapter);
    make_directory(directory);
    write_once(directory + "/adapter_config.json", config);
    write_safetensors(path, tensors, {}, metadata);
}

}  // namespace llama
