// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face_writer.hpp"

#include <filesystem>
#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

#include "llama/io/atomic_file.hpp"
#include "llama/io/json_file.hpp"

namespace llama {

namespace {

namespace fs = std::filesystem;

constexpr const char* companions[] = {
    "generation_config.json",  "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json", "vocab.json",     "merges.txt",      "chat_template.jinja"};

void copy_once(const std::string& from, const std::string& to) {
    const std::vector<char> content = read_file(from);
    write_once(to, {content.data(), content.size()});
}

void copy_tokenizer(const std::string& tokenizer, const std::string& directory, bool begins_texts) {
    check_companion_tokenizer(tokenizer);
    const std::string extension = fs::path(tokenizer).extension().string();
    copy_once(tokenizer, directory + "/tokenizer" + extension);
    if (extension != ".model") return;
    // Without it transformers leaves out the first space and BOS.
    const nlohmann::json config = {{"tokenizer_class", "LlamaTokenizer"},
                                   {"add_bos_token", begins_texts},
                                   {"add_eos_token", false},
                                   {"legacy", false}};
    write_once(directory + "/tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace

void check_companion_tokenizer(const std::string& tokenizer) {
    const std::string extension = fs::path(tokenizer).extension().string();
    if (extension != ".model" && extension != ".json") {
        throw FileError(tokenizer, "cannot stand beside a model of Hugging Face; must be tokenizer.model or .json");
    }
}

nlohmann::json make_hugging_face_config(const Config& config, const std::string& path) {
    const auto refuse = [&](const char* what) {
        throw FileError(path, std::string("a config.json with ") + what + " is not written");
    };
    if (config.attention_bias) refuse("biases");
    if (config.sliding_window > 0) refuse("a sliding window");
    if (config.rope_scaling.type != RopeScaling::Type::none || !config.rope_scaling.divisors.empty()) {
        refuse("scaled rotary frequencies");
    }
    nlohmann::json json = {
        {"architectures", {"LlamaForCausalLM"}},
        {"model_type", "llama"},
        {"hidden_act", "silu"},
        {"hidden_size", config.dim},
        {"intermediate_size", config.hidden},
        {"num_hidden_layers", config.layers},
        {"num_attention_heads", config.heads},
        {"num_key_value_heads", config.kv_heads},
        {"head_dim", config.head_dim},
        {"vocab_size", config.vocabulary},
        {"max_position_embeddings", config.context},
        {"rms_norm_eps", config.norm_epsilon},
        {"rope_theta", config.rope_base},
        {"bos_token_id", nullptr},
        {"eos_token_id", nullptr},
        {"dtype", nullptr},
    };
    if (config.begin_of_text >= 0) json["bos_token_id"] = config.begin_of_text;
    if (config.end_of_text.size() == 1) json["eos_token_id"] = config.end_of_text.front();
    if (config.end_of_text.size() > 1) json["eos_token_id"] = config.end_of_text;
    return json;
}

std::string finish_hugging_face_config(nlohmann::json config, const Checkpoint& checkpoint,
                                       std::span<const TensorToWrite> tensors) {
    std::set<WeightType> types;
    for (const TensorToWrite& tensor : tensors) types.insert(tensor.type);
    const char* name = "float32";  // holds all of a mixture
    if (types.size() == 1 && types.contains(WeightType::f16)) name = "float16";
    if (types.size() == 1 && types.contains(WeightType::bf16)) name = "bfloat16";
    // transformers renamed the key.
    const bool renamed = config.contains("dtype");
    if (renamed) config["dtype"] = name;
    if (!renamed || config.contains("torch_dtype")) config["torch_dtype"] = name;
    config["tie_word_embeddings"] = checkpoint.config.shared_classifier;
    config["vocab_size"] = checkpoint.config.vocabulary;  // an adapter may have added tokens
    return config.dump(2) + "\n";
}

std::vector<TensorToWrite> list_tensors(const Checkpoint& checkpoint,
                                        const std::function<WeightType(const NamedWeights&)>& type_of) {
    Checkpoint view = checkpoint.view();
    std::vector<TensorToWrite> tensors;
    for (const NamedWeights& weight : named_weights(view)) {
        if (weight.matrix == &view.classifier && view.config.shared_classifier) continue;
        const Weights source = weight.matrix != nullptr ? *weight.matrix : weights(*weight.vector, 1, weight.shape[0]);
        tensors.push_back({weight.name, weight.shape, source, type_of(weight)});
    }
    return tensors;
}

void copy_companions(const std::string& from, const std::string& to, const std::string& tokenizer_from) {
    for (const char* const name : companions) {
        const bool of_the_tokenizer = !tokenizer_from.empty() && std::string_view(name) != "generation_config.json";
        const std::string source = (of_the_tokenizer ? tokenizer_from : from) + "/" + name;
        if (file_exists(source)) copy_once(source, to + "/" + name);
    }
}

void write_hugging_face(const std::string& directory, const Checkpoint& checkpoint, WeightType type,
                        const ModelSource& source, const WriteProgress& progress,
                        const std::map<std::string, std::string>& metadata) {
    if (!has_hugging_face_layout(checkpoint)) {
        throw FileError(directory, "only weights in Hugging Face's layout can be written; these are " +
                                       (checkpoint.format.empty() ? "in another" : checkpoint.format));
    }
    const bool made = source.directory.empty();
    const nlohmann::json config =
        made ? make_hugging_face_config(checkpoint.config, directory) : read_json(source.directory + "/config.json");
    const std::vector<TensorToWrite> tensors = list_tensors(checkpoint, [&](const NamedWeights&) { return type; });
    make_directory(directory);
    // The weights last: they make a model of it.
    write_once(directory + "/config.json", finish_hugging_face_config(config, checkpoint, tensors));
    if (!made) copy_companions(source.directory, directory);
    if (!source.tokenizer.empty()) {
        copy_tokenizer(source.tokenizer, directory, checkpoint.config.begin_of_text >= 0);
    }
    write_safetensors(directory + "/model.safetensors", tensors, progress, metadata);
}

}  // namespace llama
