// SPDX-License-Identifier: MIT
#include "llama/adapter.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include "llama/hugging_face.hpp"
#include "llama/in_quotes.hpp"
#include "llama/json_file.hpp"
#include "llama/json_object.hpp"
#include "llama/plain_weights.hpp"
#include "llama/safetensors.hpp"
#include "llama/torch_file.hpp"

namespace llama {

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr const char* embedding_name = "model.embed_tokens.weight";
constexpr const char* classifier_name = "lm_head.weight";

// adapter_config.json
class AdapterConfig {
public:
    explicit AdapterConfig(const std::string& path) : path_(path), json_(read_json(path)) {
        const JsonObject object(json_, path_);
        const std::string type = object.required("peft_type", object.text("peft_type"));
        if (type != "LORA") object.fail("peft_type", type, "must be \"LORA\"");
        check_supported(object);
        rank_ = object.required_whole("r");
        alpha_ = object.required_number("lora_alpha");
        root_of_rank_ = object.flag("use_rslora").value_or(false);
        keeps_tied_ = object.flag("ensure_weight_tying").value_or(false);
    }

    /// Of B A, for a module that has a name like "model.layers.0.self_attn.q_proj".
    double scale(std::string_view module) const {
        const Index rank = this->rank(module);
        const double alpha = number_of("alpha_pattern", module).value_or(alpha_);
        return alpha / (root_of_rank_ ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
    }

    Index rank(std::string_view module) const {
        const double rank = number_of("rank_pattern", module).value_or(static_cast<double>(rank_));
        if (!(rank >= 1 && rank <= 1 << 20 && rank == std::floor(rank))) {
            throw FileError(path_, "the rank of " + in_quotes(module) + " is " + std::to_string(rank) +
                                       ", must be a whole number of at least 1");
        }
        return static_cast<Index>(rank);
    }

    /// A replaced embedding replaces a classifier that shares it, too.
    bool keeps_tied() const { return keeps_tied_; }

private:
    static void check_supported(const JsonObject& object) {
        // Each would change what the matrices mean.
        for (const char* const key :
             {"fan_in_fan_out", "use_dora", "lora_bias", "use_qalora", "use_bdlora", "layer_replication",
              "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "kasa_config",
              "monteclora_config", "megatron_config"}) {
            const nlohmann::json* const value = object.find(key);
            const bool unset = value == nullptr || *value == false || (value->is_structured() && value->empty());
            if (!unset) object.fail(key, *value, "not supported");
        }
        if (const auto bias = object.text("bias"); bias.value_or("none") != "none") {
            object.fail("bias", *bias, "must be \"none\"");
        }
        // Other ways to begin change the model's own weights before the training.
        if (const nlohmann::json* const init = object.find("init_lora_weights")) {
            const bool plain = init->is_boolean() || *init == "gaussian" || *init == "orthogonal" || *init == "eva";
            if (!plain) {
                object.fail("init_lora_weights", *init,
                            "must be true, false, gaussian, orthogonal or eva; PEFT converts others when it saves");
            }
        }
    }

    // The keys are regular expressions for PEFT that have to match behind a dot; in practice they are names.
    std::optional<double> number_of(const char* pattern, std::string_view module) const {
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
                return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                       c == '.';
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

    std::string path_;
    nlohmann::json json_;
    Index rank_ = 0;
    double alpha_ = 0;
    bool root_of_rank_ = false;
    bool keeps_tied_ = false;
};

bool exists(const std::string& path) {
    std::error_code error;
    return std::filesystem::exists(path, error);
}

std::optional<TensorFile> open_either(const std::string& stem) {
    if (exists(stem + ".safetensors")) return read_safetensors(stem + ".safetensors");
    if (exists(stem + ".bin")) return read_torch_file(stem + ".bin");
    return std::nullopt;
}

// Cuts `suffix` off if it is there.
bool remove_suffix(std::string_view& text, std::string_view suffix) {
    if (!text.ends_with(suffix)) return false;
    text.remove_suffix(suffix.size());
    return true;
}

class Merger {
public:
    explicit Merger(Checkpoint& checkpoint) : checkpoint_(checkpoint) {
        for (NamedWeights& weights : named_weights(checkpoint)) targets_.emplace(weights.name, weights);
    }

    // Tensors under their own names; with `keep_tied`, a shared embedding stays shared.
    void replace_all(TensorFile&& file, bool keep_tied) {
        for (const auto& [key, tensor] : file.tensors) {
            if (is_redundant_tensor(key)) continue;
            replace({file.path, key, tensor}, target_name(key), keep_tied);
        }
        checkpoint_.files.push_back(std::move(file.map));
    }

    void merge(TensorFile&& file, const AdapterConfig& config, const MergeProgress& progress) {
        std::map<std::string, Factors, std::less<>> pairs;
        // Whole tensors first: a LoRA of the same module was trained on top of them.
        for (const auto& [key, tensor] : file.tensors) {
            const TensorReference reference{file.path, key, tensor};
            std::string_view module = target_name(key);
            if (remove_suffix(module, ".lora_A.weight")) {
                pairs[std::string(module)].a.emplace(reference);
            } else if (remove_suffix(module, ".lora_B.weight")) {
                pairs[std::string(module)].b.emplace(reference);
            } else if (remove_suffix(module, ".lora_embedding_A")) {
                pairs[std::string(module)].embedding_a.emplace(reference);
            } else if (remove_suffix(module, ".lora_embedding_B")) {
                pairs[std::string(module)].embedding_b.emplace(reference);
            } else if (remove_suffix(module, ".base_layer.weight")) {
                replace(reference, std::string(module) + ".weight", true);
            } else {
                replace(reference, module, config.keeps_tied());
            }
        }
        Index done = 0;
        for (const auto& [module, factors] : pairs) {
            add(module, factors, config);
            if (progress) progress(++done, static_cast<Index>(pairs.size()));
        }
        checkpoint_.files.push_back(std::move(file.map));
    }

    ChangedWeights take_changed() && { return std::move(changed_); }

private:
    struct Factors {
        std::optional<TensorReference> a, b, embedding_a, embedding_b;
    };

    static std::string_view target_name(std::string_view key) {
        constexpr std::string_view wrapped = "base_model.model.";
        return key.substr(key.starts_with(wrapped) ? wrapped.size() : 0);
    }

    static bool is_vocabulary(std::string_view name) { return name == embedding_name || name == classifier_name; }

    NamedWeights& find_target(const TensorReference& reference, std::string_view name) {
        const auto found = targets_.find(name);
        if (found == targets_.end()) reference.fail("fits nothing in the model");
        return found->second;
    }

    // Rows of a vocabulary: a training that pads may have added some.
    Index check_rows(const TensorReference& reference, Index rows, const NamedWeights& target) {
        const Index needed = target.shape[0];
        if (rows < needed || (rows > needed && !is_vocabulary(target.name))) {
            reference.fail("has the shape " + describe_shape(reference.tensor.shape) + " for weights of " +
                           describe_shape(target.shape));
        }
        if (rows > needed) {
            std::fprintf(stderr,
                         "freqkv-llama: note: %s: the last %lld rows of %s are beyond the vocabulary, dropped\n",
                         reference.path.c_str(), static_cast<long long>(rows - needed), in_quotes(target.name).c_str());
        }
        return needed;
    }

    void replace(const TensorReference& reference, std::string_view name, bool keep_tied) {
        const NamedWeights& target = find_target(reference, name);
        const std::vector<Index>& shape = reference.tensor.shape;
        const WeightType type = reference.type();
        if (target.vector != nullptr) {
            reference.check_shape(target.shape);
            *target.vector = load_vector(checkpoint_, reference);
        } else {
            if (shape.size() != 2 || shape[1] != target.shape[1]) reference.check_shape(target.shape);
            const Index rows = check_rows(reference, shape[0], target);
            set(target, load_matrix(checkpoint_, reference).middle_rows(0, rows), keep_tied);
        }
        changed_[target.name] = type;
    }

    void set(const NamedWeights& target, const Weights& weights, bool keep_tied) {
        if (is_vocabulary(target.name) && checkpoint_.config.shared_classifier) {
            if (keep_tied) {
                checkpoint_.embedding = checkpoint_.classifier = weights;
                changed_[embedding_name] = weights.type;
                return;
            }
            checkpoint_.config.shared_classifier = false;
        }
        *target.matrix = weights;
    }

    void add(const std::string& module, const Factors& factors, const AdapterConfig& config) {
        const bool embedding = factors.embedding_a || factors.embedding_b;
        const auto& a = embedding ? factors.embedding_a : factors.a;
        const auto& b = embedding ? factors.embedding_b : factors.b;
        const TensorReference& present = a ? *a : *b;
        if (!a || !b) present.fail(std::string("is there without its lora_") + (a ? "B" : "A"));
        const NamedWeights& target = find_target(present, module + ".weight");
        if (target.matrix == nullptr || embedding != (target.name == embedding_name)) {
            present.fail("fits nothing in the model");
        }
        // As a product of [rows, rank] and [rank, columns].
        const Index rank = config.rank(module);
        const Index rows = embedding ? axis(*a, 1) : axis(*b, 0);
        const Index used_rows = check_rows(embedding ? *a : *b, rows, target);
        const Index columns = target.shape[1];
        Matrix left = embedding ? Matrix(load(*a, rank, rows).transpose()) : load(*b, rows, rank);
        const Matrix right = embedding ? Matrix(load(*b, columns, rank).transpose()) : load(*a, rank, columns);
        const auto scale = static_cast<float>(config.scale(module));
        set(target, sum(*target.matrix, left.topRows(used_rows), right, scale), false);
        changed_[target.name] = WeightType::f32;
    }

    static Index axis(const TensorReference& reference, std::size_t i) {
        if (reference.tensor.shape.size() != 2) {
            reference.fail("has the shape " + describe_shape(reference.tensor.shape) + ", must have two axes");
        }
        return reference.tensor.shape[i];
    }

    static Matrix load(const TensorReference& reference, Index rows, Index columns) {
        reference.check_shape({rows, columns});
        Matrix matrix(rows, columns);
        to_floats(reference.tensor.bytes.data(), reference.type(), rows * columns, matrix.data());
        return matrix;
    }

    // weights + scale * left * right, in memory of the checkpoint.
    Weights sum(const Weights& weights, const Eigen::Ref<const Matrix>& left, const Matrix& right, float scale) {
        constexpr Index block = 256;
        float* const result =
            checkpoint_.allocate_floats(freqkv::checked_product("merged weights", weights.rows, weights.columns));
        Matrix change;
        for (Index first = 0; first < weights.rows; first += block) {
            const Index count = std::min(block, weights.rows - first);
            float* const rows = result + first * weights.columns;
            to_floats(weights.row(first), weights.type, count * weights.columns, rows);
            change.noalias() = left.middleRows(first, count) * right;
            Eigen::Map<Matrix>(rows, count, weights.columns) += scale * change;
        }
        return llama::weights(result, weights.rows, weights.columns);
    }

    Checkpoint& checkpoint_;
    std::map<std::string, NamedWeights, std::less<>> targets_;
    ChangedWeights changed_;
};

// The rows of q and k in other formats are in another order, and GGUF's may be quantised.
void check_layout(Checkpoint& checkpoint) {
    bool fits = checkpoint.config.rope_pairing == freqkv::RopePairing::half_split;
    for (const NamedWeights& weights : named_weights(checkpoint)) {
        fits = fits && (weights.matrix == nullptr || is_plain(weights.matrix->type));
    }
    if (!fits) {
        throw FileError(checkpoint.path,
                        "adapters fit models in Hugging Face's layout only; this is " + checkpoint.format);
    }
}

}  // namespace

ChangedWeights merge_adapter(Checkpoint& checkpoint, const std::string& directory, const MergeProgress& progress) {
    check_layout(checkpoint);
    std::optional<TensorFile> trained = open_either(directory + "/trainable_params");
    std::optional<TensorFile> adapter = open_either(directory + "/adapter_model");
    if (!trained && !adapter) {
        throw FileError(directory, "no adapter (looked for adapter_model and trainable_params, .safetensors and .bin)");
    }
    Merger merger(checkpoint);
    if (trained) merger.replace_all(std::move(*trained), true);
    if (adapter) merger.merge(std::move(*adapter), AdapterConfig(directory + "/adapter_config.json"), progress);
    checkpoint.format += ", with an adapter";
    return std::move(merger).take_changed();
}

}  // namespace llama
