// SPDX-License-Identifier: MIT
#include "llama/formats/adapter.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include "llama/formats/adapter_config.hpp"
#include "llama/formats/hugging_face.hpp"
#include "llama/formats/hugging_face_layout.hpp"
#include "llama/formats/safetensors.hpp"
#include "llama/formats/torch_file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/model/dequantize.hpp"
#include "llama/model/plain_weights.hpp"

namespace llama {

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::optional<TensorFile> open_either(const std::string& stem) {
    if (file_exists(stem + ".safetensors")) return read_safetensors(stem + ".safetensors");
    if (file_exists(stem + ".bin")) return read_torch_file(stem + ".bin");
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

    // Tensors under their own names; a shared embedding stays shared.
    void replace_all(TensorFile file) {
        for (const auto& [key, tensor] : file.tensors) {
            if (is_redundant_tensor(key)) continue;
            replace({file.path, key, tensor}, target_name(key), true);
        }
        checkpoint_.files.push_back(std::move(file.map));
    }

    // Whole tensors first, then the rows of single tokens, then the low ranks: each was trained on top of the former.
    void merge(TensorFile file, const AdapterConfig& config, const MergeProgress& progress) {
        std::map<std::string, Factors, std::less<>> pairs;
        std::map<std::string, const Entry*, std::less<>> tokens;
        for (const Entry& entry : file.tensors) {
            std::string_view module = target_name(entry.first);
            if (remove_suffix(module, ".lora_A.weight")) {
                pairs[std::string(module)].a = &entry;
            } else if (remove_suffix(module, ".lora_B.weight")) {
                pairs[std::string(module)].b = &entry;
            } else if (remove_suffix(module, ".lora_embedding_A")) {
                pairs[std::string(module)].embedding_a = &entry;
            } else if (remove_suffix(module, ".lora_embedding_B")) {
                pairs[std::string(module)].embedding_b = &entry;
            } else if (remove_suffix(module, ".token_adapter.trainable_tokens_delta")) {
                tokens[std::string(module)] = &entry;
            } else {
                replace_whole(file, entry, config);
            }
        }
        for (const auto& [module, entry] : tokens) {
            const bool apart = tokens.contains(embedding_module) && tokens.contains(classifier_module);
            replace_rows({file.path, entry->first, entry->second}, module, config,
                         !apart && module == embedding_module);
        }
        Index done = 0;
        for (const auto& [module, factors] : pairs) {
            const bool apart = pairs.contains(embedding_module) && pairs.contains(classifier_module);
            add(file.path, module, factors, config, config.keeps_tied() && !apart);
            if (progress) progress(++done, static_cast<Index>(pairs.size()));
        }
        checkpoint_.files.push_back(std::move(file.map));
    }

    // The vocabulary is what both the embedding and the classifier have rows for: tokens that were added to both are
    // part of it, a row of only one, which a training that pads leaves, is not.
    void settle_vocabulary(const std::string& directory) {
        Weights& embedding = checkpoint_.embedding;
        Weights& classifier = checkpoint_.classifier;
        const Index rows = std::min(embedding.rows, classifier.rows);
        for (const auto& [name, matrix] : {std::pair{embedding_name, &embedding}, {classifier_name, &classifier}}) {
            if (matrix->rows > rows) note_dropped(directory, name, rows);
            *matrix = matrix->middle_rows(0, rows);
        }
        checkpoint_.config.vocabulary = rows;
    }

    ChangedWeights take_changed() && { return std::move(changed_); }

private:
    using Entry = std::pair<const std::string, StoredTensor>;

    // Null: there is none.
    struct Factors {
        const Entry* a = nullptr;
        const Entry* b = nullptr;
        const Entry* embedding_a = nullptr;
        const Entry* embedding_b = nullptr;
    };

    static std::string_view target_name(std::string_view key) {
        constexpr std::string_view wrapped = "base_model.model.";
        return key.substr(key.starts_with(wrapped) ? wrapped.size() : 0);
    }

    static constexpr std::string_view embedding_module = "model.embed_tokens";
    static constexpr std::string_view classifier_module = "lm_head";
    static constexpr const char* trained_copy = ".modules_to_save.weight";

    static bool is_vocabulary(std::string_view name) { return name == embedding_name || name == classifier_name; }

    NamedWeights& find_target(const TensorReference& reference, std::string_view name) {
        const auto found = targets_.find(name);
        if (found == targets_.end()) reference.fail("fits nothing in the model");
        return found->second;
    }

    static void note_dropped(const std::string& path, std::string_view name, Index rows) {
        std::fprintf(stderr, "freqkv-llama: note: %s: the rows of %s from %lld on are beyond the vocabulary, dropped\n",
                     path.c_str(), in_quotes(name).c_str(), static_cast<long long>(rows));
    }

    // Only a vocabulary may grow.
    static void check_rows(const TensorReference& reference, Index rows, Index needed, const NamedWeights& target) {
        if (rows < needed || (rows > needed && !is_vocabulary(target.name))) {
            reference.fail("has the shape " + describe_shape(reference.tensor.shape) + " for weights of " +
                           describe_shape({needed, target.shape[1]}));
        }
    }

    // PEFT saves a module that was trained wholly under its own name; with the embedding layers saved, the same once
    // more and the base's beside it.
    void replace_whole(const TensorFile& file, const Entry& entry, const AdapterConfig& config) {
        const auto& [key, tensor] = entry;
        const TensorReference reference{file.path, key, tensor};
        std::string_view module = target_name(key);
        const auto has = [&, prefix = key.size() - module.size()](const char* suffix) {
            return file.tensors.contains(key.substr(0, prefix) + std::string(module) + suffix);
        };
        if (remove_suffix(module, ".original_module.weight")) {
            if (!has(".weight") && !has(trained_copy)) reference.fail("is there without what was trained in its place");
        } else if (remove_suffix(module, trained_copy)) {
            if (!has(".weight")) replace(reference, std::string(module) + ".weight", config.keeps_tied());
        } else if (remove_suffix(module, ".token_adapter.base_layer.weight") ||
                   remove_suffix(module, ".base_layer.weight")) {
            replace(reference, std::string(module) + ".weight", true);
        } else {
            const std::string name(module);
            remove_suffix(module, ".weight");
            replace(reference, name, !config.saves(module) || config.keeps_tied());
        }
    }

    void replace(const TensorReference& reference, std::string_view name, bool keep_tied) {
        const NamedWeights& target = find_target(reference, name);
        const std::vector<Index>& shape = reference.tensor.shape;
        const WeightType type = reference.type();
        reference.check_finite();
        if (target.vector != nullptr) {
            reference.check_shape(target.shape);
            *target.vector = load_vector(checkpoint_, reference);
        } else {
            if (shape.size() != 2 || shape[1] != target.shape[1]) reference.check_shape(target.shape);
            check_rows(reference, shape[0], target.shape[0], target);
            set(target, load_matrix(checkpoint_, reference), keep_tied);
        }
        changed_[target.name] = type;
    }

    // The rows of single tokens, new ones too if there is none between them and the vocabulary that has no row.
    void replace_rows(const TensorReference& reference, const std::string& module, const AdapterConfig& config,
                      bool keep_tied) {
        const NamedWeights& target = find_target(reference, module + ".weight");
        const std::vector<Index>* const tokens = config.tokens_of(module);
        if (!is_vocabulary(target.name)) reference.fail("fits nothing in the model");
        if (tokens == nullptr) reference.fail("is there without trainable_token_indices that say which");
        const Index columns = target.shape[1];
        const auto count = static_cast<Index>(tokens->size());
        const Weights& before = *target.matrix;
        reference.check_shape({count, columns});
        const Index rows =
            std::max(before.rows, count == 0 ? 0 : *std::max_element(tokens->begin(), tokens->end()) + 1);
        const std::set<Index> distinct(tokens->begin(), tokens->end());
        const Index added = std::distance(distinct.lower_bound(before.rows), distinct.end());
        if (rows - before.rows != added) {
            reference.fail("has rows for tokens up to " + std::to_string(rows - 1) + ", but not for all from " +
                           std::to_string(before.rows) + " on, which the model lacks");
        }
        float* const result = checkpoint_.allocate_floats(freqkv::checked_product("rows of tokens", rows, columns));
        dequantize_rows(before, 0, before.rows, result);
        const Matrix trained = load(reference, count, columns);
        for (Index i = 0; i < count; ++i) {
            const Index token = (*tokens)[static_cast<std::size_t>(i)];
            std::copy_n(trained.data() + i * columns, columns, result + token * columns);
        }
        set(target, weights(result, rows, columns), keep_tied);
        changed_[target.name] = WeightType::f32;
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

    void add(const std::string& path, const std::string& module, const Factors& factors, const AdapterConfig& config,
             bool keep_tied) {
        const bool embedding = factors.embedding_a != nullptr || factors.embedding_b != nullptr;
        const Entry* const entry_a = embedding ? factors.embedding_a : factors.a;
        const Entry* const entry_b = embedding ? factors.embedding_b : factors.b;
        if (entry_a == nullptr || entry_b == nullptr) {
            const Entry& present = entry_a != nullptr ? *entry_a : *entry_b;
            TensorReference{path, present.first, present.second}.fail(std::string("is there without its lora_") +
                                                                      (entry_a != nullptr ? "B" : "A"));
        }
        const TensorReference a{path, entry_a->first, entry_a->second};
        const TensorReference b{path, entry_b->first, entry_b->second};
        const NamedWeights& target = find_target(a, module + ".weight");
        if (target.matrix == nullptr || embedding != (target.name == embedding_name)) {
            a.fail("fits nothing in the model");
        }
        // As a product of [rows, rank] and [rank, columns].
        const Index rank = config.rank(module);
        const Index rows = embedding ? axis(a, 1) : axis(b, 0);
        const Index used_rows = target.matrix->rows;
        check_rows(embedding ? a : b, rows, used_rows, target);
        if (rows > used_rows) note_dropped(path, target.name, used_rows);
        const Index columns = target.shape[1];
        const Matrix left = embedding ? Matrix(load(a, rank, rows).transpose()) : load(b, rows, rank);
        const Matrix right = embedding ? Matrix(load(b, columns, rank).transpose()) : load(a, rank, columns);
        const auto scale = static_cast<float>(config.scale(module));
        const Weights merged = sum(*target.matrix, left.topRows(used_rows), right, scale);
        const Index count = merged.rows * merged.columns;
        if (const Index place = find_not_finite(merged.data, merged.type, count); place < count) {
            throw FileError(path, "merged with it, tensor " + in_quotes(target.name) + " " +
                                      describe_not_finite(merged.data, merged.type, place));
        }
        set(target, merged, keep_tied);
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
        reference.check_finite();
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
            dequantize_rows(weights, first, count, rows);
            change.noalias() = left.middleRows(first, count) * right;
            Eigen::Map<Matrix>(rows, count, weights.columns) += scale * change;
        }
        return llama::weights(result, weights.rows, weights.columns);
    }

    Checkpoint& checkpoint_;
    std::map<std::string, NamedWeights, std::less<>> targets_;
    ChangedWeights changed_;
};

}  // namespace

ChangedWeights merge_adapter(Checkpoint& checkpoint, const std::string& directory, const MergeProgress& progress) {
    std::optional<TensorFile> trained = open_either(directory + "/trainable_params");
    std::optional<TensorFile> adapter = open_either(directory + "/adapter_model");
    if (!trained && !adapter) {
        throw FileError(directory, "no adapter (looked for adapter_model and trainable_params, .safetensors and .bin)");
    }
    for (const auto* const file : {&trained, &adapter}) {
        if (*file && (*file)->tensors.empty()) throw FileError((*file)->path, "has no tensors, so it is no adapter");
    }
    arrange_as_hugging_face(checkpoint);
    Merger merger(checkpoint);
    if (trained) merger.replace_all(std::move(*trained));
    if (adapter) merger.merge(std::move(*adapter), AdapterConfig(directory + "/adapter_config.json"), progress);
    merger.settle_vocabulary(directory);
    for (LayerWeights& layer : checkpoint.layers) layer.split_joined(checkpoint.config);
    checkpoint.format += ", with an adapter";
    return std::move(merger).take_changed();
}

}  // namespace llama
