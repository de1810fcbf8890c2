// SPDX-License-Identifier: MIT
#include "llama/formats/hugging_face.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/formats/hugging_face_config.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"
#include "llama/model/plain_weights.hpp"

namespace llama {

namespace {

constexpr const char* single_file = "model.safetensors";
constexpr const char* index_file = "model.safetensors.index.json";

HuggingFaceConfig read_config_of_family(const std::string& path) {
    std::error_code error;
    std::filesystem::path file(path);
    if (std::filesystem::is_directory(file, error)) file /= "config.json";
    HuggingFaceConfig result = parse_hugging_face_config(read_json(file.string()), file.string());
    const std::string generation = (file.parent_path() / "generation_config.json").string();
    if (file_exists(generation)) add_end_of_text(result.config, read_json(generation), generation);
    return result;
}

// The shards' names, without those of other directories.
std::set<std::string> read_shard_names(const std::string& path, const nlohmann::json& weight_map) {
    std::set<std::string> names;
    for (const auto& [tensor, shard] : weight_map.items()) {
        const std::string name = shard.is_string() ? shard.get<std::string>() : std::string();
        constexpr std::size_t longest_name = 255;
        const bool plain = !name.empty() && name.size() <= longest_name && name != "." && name != ".." &&
                           name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
        if (!plain) {
            throw FileError(path, "weight_map sends tensor " + in_quotes(tensor) + " to " +
                                      in_quotes(shard.is_string() ? name : shard.dump().substr(0, 64)) +
                                      ", must be the name of a file in the same directory");
        }
        names.insert(name);
    }
    return names;
}

std::vector<TensorFile> open_shards(const std::string& directory) {
    const std::string path = directory + "/" + index_file;
    const nlohmann::json index = read_json(path);
    const nlohmann::json* const weight_map = JsonObject(index, path).find("weight_map");
    if (weight_map == nullptr || !weight_map->is_object()) throw FileError(path, "has no weight_map that is an object");
    std::vector<TensorFile> files;
    for (const std::string& name : read_shard_names(path, *weight_map)) {
        files.push_back(read_safetensors(directory + "/" + name));
    }
    std::unordered_map<std::string_view, const TensorFile*> holders;
    for (const TensorFile& file : files) {
        for (const auto& [name, tensor] : file.tensors) {
            if (!holders.emplace(name, &file).second) {
                throw FileError(file.path, "tensor " + in_quotes(name) + " is in another shard, too");
            }
        }
    }
    for (const auto& [tensor, shard] : weight_map->items()) {
        const auto holder = holders.find(tensor);
        if (holder == holders.end() || holder->second->path != directory + "/" + shard.get<std::string>()) {
            throw FileError(path, "tensor " + in_quotes(tensor) + " is not in the shard that weight_map says, " +
                                      in_quotes(shard.get<std::string>()));
        }
    }
    return files;
}

// Finds the tensors of a model and turns them into weights.
class Loader {
public:
    Loader(const std::string& directory, const HuggingFaceConfig& config) : files_(open_tensor_files(directory)) {
        checkpoint_.path = directory;
        checkpoint_.config = config.config;
        for (const TensorFile& file : files_) {
            for (const auto& [name, tensor] : file.tensors) {
                std::string_view known = name;
                if (known.starts_with(config.prefix)) {
                    known.remove_prefix(config.prefix.size());
                } else if (is_for_images(name)) {
                    continue;
                }
                tensors_.try_emplace(known, Found{&file.path, &name, &tensor});
            }
        }
        resolve_classifier();
        check_layers();
        // Llamas that were made of Qwen2 have q, k and v with biases only.
        if (find("model.layers.0.self_attn.o_proj.bias") == nullptr) checkpoint_.config.output_bias = false;
        load();
        check_rest();
        checkpoint_.format = "Hugging Face " + config.family + ", " + describe_types();
        if (files_.size() > 1) checkpoint_.format += ", " + std::to_string(files_.size()) + " shards";
        for (TensorFile& file : files_) checkpoint_.files.push_back(std::move(file.map));
    }

    Checkpoint take() && { return std::move(checkpoint_); }

private:
    struct Found {
        const std::string* path;
        const std::string* name;
        const StoredTensor* tensor;
        bool used = false;

        TensorReference reference() const { return {*path, *name, *tensor}; }
    };

    static bool is_for_images(std::string_view name) {
        return name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.");
    }

    Found* find(std::string_view name) {
        const auto found = tensors_.find(name);
        return found == tensors_.end() ? nullptr : &found->second;
    }

    // A shared matrix may be saved under either name, or under both. Where the two differ, transformers takes the
    // tensors' word over that of config.json.
    void resolve_classifier() {
        Found* const embedding = find(embedding_name);
        Found* const classifier = find(classifier_name);
        if (!checkpoint_.config.shared_classifier || classifier == nullptr) return;
        if (embedding == nullptr) {
            tensors_.emplace(embedding_name, *classifier);
        } else {
            const StoredTensor& a = *embedding->tensor;
            const StoredTensor& b = *classifier->tensor;
            checkpoint_.config.shared_classifier = a.type == b.type && a.shape == b.shape &&
                                                   a.bytes.size() == b.bytes.size() &&
                                                   std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
        }
        classifier->used = true;
    }

    // Memory for the layers is taken only if the files hold as many.
    void check_layers() {
        const Index tensors_of_layer = checkpoint_.config.joined_projections ? 6 : 9;
        const Index layers = checkpoint_.config.layers;
        if (static_cast<Index>(tensors_.size()) < layers * tensors_of_layer) {
            throw FileError(checkpoint_.path, "config.json says " + std::to_string(layers) +
                                                  " layers, for which the files' " + std::to_string(tensors_.size()) +
                                                  " tensors are too few");
        }
        checkpoint_.layers.resize(static_cast<std::size_t>(layers));
    }

    void load() {
        for (const NamedWeights& weights : named_weights(checkpoint_)) {
            if (weights.name == classifier_name && checkpoint_.config.shared_classifier) {
                checkpoint_.classifier = checkpoint_.embedding;
                continue;
            }
            Found* const found = find(weights.name);
            if (found == nullptr) {
                throw FileError(checkpoint_.path, "tensor " + in_quotes(weights.name) + " is missing");
            }
            found->used = true;
            const TensorReference reference = found->reference();
            reference.check_shape(weights.shape);
            if (weights.matrix != nullptr) {
                *weights.matrix = load_matrix(checkpoint_, reference);
                types_.insert(weights.matrix->type);
            } else {
                *weights.vector = load_vector(checkpoint_, reference);
            }
        }
        for (LayerWeights& layer : checkpoint_.layers) layer.split_joined(checkpoint_.config);
    }

    // What is left over would have changed the result, unless it is known not to.
    void check_rest() {
        for (const auto& [name, found] : tensors_) {
            if (found.used || is_redundant_tensor(name)) continue;
            if (name.ends_with(".self_attn.o_proj.bias")) {
                if (all_zero(found.tensor->bytes)) continue;
                found.reference().fail("is a bias behind the attention, which is supported only if it is zero");
            }
            found.reference().fail("is none of this model's");
        }
    }

    static bool all_zero(std::span<const std::byte> bytes) {
        return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
    }

    std::string describe_types() const {
        std::string text;
        for (const WeightType type : types_) text += (text.empty() ? "" : " and ") + std::string(format_of(type).name);
        return text;
    }

    std::vector<TensorFile> files_;
    std::unordered_map<std::string_view, Found> tensors_;
    std::set<WeightType> types_;  // of matrices
    Checkpoint checkpoint_;
};

}  // namespace

std::vector<NamedWeights> named_weights(Checkpoint& checkpoint) {
    const Config& c = checkpoint.config;
    std::vector<NamedWeights> all;
    all.push_back({embedding_name, {c.vocabulary, c.dim}, &checkpoint.embedding, nullptr});
    for (std::size_t l = 0; l < checkpoint.layers.size(); ++l) {
        LayerWeights& layer = checkpoint.layers[l];
        const std::string prefix = "model.layers." + std::to_string(l) + ".";
        const auto matrix = [&](const char* name, Weights& weights, Index rows, Index columns) {
            all.push_back({prefix + name + ".weight", {rows, columns}, &weights, nullptr});
        };
        const auto vector = [&](const char* name, const float*& weights, Index size) {
            all.push_back({prefix + name, {size}, nullptr, &weights});
        };
        vector("input_layernorm.weight", layer.attention_norm, c.dim);
        if (c.joined_projections) {
            matrix("self_attn.qkv_proj", layer.qkv, c.query_dim() + 2 * c.kv_dim(), c.dim);
        } else {
            matrix("self_attn.q_proj", layer.wq, c.query_dim(), c.dim);
            matrix("self_attn.k_proj", layer.wk, c.kv_dim(), c.dim);
            matrix("self_attn.v_proj", layer.wv, c.kv_dim(), c.dim);
        }
        matrix("self_attn.o_proj", layer.wo, c.dim, c.query_dim());
        if (c.attention_bias) {
            vector("self_attn.q_proj.bias", layer.q_bias, c.query_dim());
            vector("self_attn.k_proj.bias", layer.k_bias, c.kv_dim());
            vector("self_attn.v_proj.bias", layer.v_bias, c.kv_dim());
        }
        if (c.output_bias) vector("self_attn.o_proj.bias", layer.o_bias, c.dim);
        if (c.head_norms) {
            vector("self_attn.q_norm.weight", layer.q_norm, c.head_dim);
            vector("self_attn.k_norm.weight", layer.k_norm, c.head_dim);
        }
        // Where the block's output is normalised, too, this name is that norm's.
        vector("post_attention_layernorm.weight", c.output_norms ? layer.attention_output_norm : layer.ffn_norm, c.dim);
        if (c.output_norms) {
            vector("pre_feedforward_layernorm.weight", layer.ffn_norm, c.dim);
            vector("post_feedforward_layernorm.weight", layer.ffn_output_norm, c.dim);
        }
        if (c.joined_projections) {
            matrix("mlp.gate_up_proj", layer.gate_up, 2 * c.hidden, c.dim);
        } else {
            matrix("mlp.gate_proj", layer.gate, c.hidden, c.dim);
            matrix("mlp.up_proj", layer.up, c.hidden, c.dim);
        }
        matrix("mlp.down_proj", layer.down, c.dim, c.hidden);
        if (c.feed_forward_bias) {
            vector("mlp.gate_proj.bias", layer.gate_bias, c.hidden);
            vector("mlp.up_proj.bias", layer.up_bias, c.hidden);
            vector("mlp.down_proj.bias", layer.down_bias, c.dim);
        }
    }
    all.push_back({"model.norm.weight", {c.dim}, nullptr, &checkpoint.final_norm});
    all.push_back({classifier_name, {c.vocabulary, c.dim}, &checkpoint.classifier, nullptr});
    return all;
}

bool has_hugging_face_layout(const Checkpoint& checkpoint) {
    Checkpoint view = checkpoint.view();
    bool plain = true;
    for (const NamedWeights& weights : named_weights(view)) {
        plain = plain && (weights.matrix == nullptr || is_plain(weights.matrix->type));
    }
    // GGUF files of Gemma have the offset of the norms in their weights.
    const bool norms_as_written = !checkpoint.config.output_norms || checkpoint.config.norm_offset != 0;
    return plain && norms_as_written && checkpoint.config.rope_pairing == freqkv::RopePairing::half_split;
}

bool is_redundant_tensor(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

std::vector<TensorFile> open_tensor_files(const std::string& directory) {
    if (file_exists(directory + "/" + single_file)) {
        std::vector<TensorFile> files;
        files.push_back(read_safetensors(directory + "/" + single_file));
        return files;
    }
    if (file_exists(directory + "/" + index_file)) return open_shards(directory);
    const bool pickled =
        file_exists(directory + "/pytorch_model.bin") || file_exists(directory + "/pytorch_model.bin.index.json");
    throw FileError(directory, std::string("no weights (looked for ") + single_file + " and " + index_file + ")" +
                                   (pickled ? "; pytorch_model.bin is not read, only safetensors are" : ""));
}

Checkpoint read_hugging_face(const std::string& directory) {
    return Loader(directory, read_config_of_family(directory)).take();
}

Config read_hugging_face_config(const std::string& path) { return read_config_of_family(path).config; }

}  // namespace llama
