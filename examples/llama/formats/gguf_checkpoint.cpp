// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/formats/open_checkpoint.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "llama/formats/gguf_config.hpp"
#include "llama/formats/gguf_file.hpp"
#include "llama/formats/gguf_parts.hpp"
#include "llama/model/dequantize.hpp"

namespace llama {

namespace {

// "F32, F16 and BF16"
std::string list_of_types() {
    std::string list;
    for (std::size_t i = 0; i < weight_types; ++i) {
        if (i > 0) list += i + 1 < weight_types ? ", " : " and ";
        list += weight_formats[i].name;
    }
    return list;
}

class GgufReader {
public:
    explicit GgufReader(const std::string& path) : file_(open_gguf_parts(path)) {
        checkpoint_.path = path;
        checkpoint_.config = read_gguf_config(file_);
    }

    Checkpoint read() && {
        const Config& c = checkpoint_.config;
        read_divisors();
        checkpoint_.embedding = matrix("token_embd.weight", c.vocabulary, c.dim);
        checkpoint_.classifier =
            c.shared_classifier ? checkpoint_.embedding : matrix("output.weight", c.vocabulary, c.dim);
        checkpoint_.final_norm = vector("output_norm.weight", c.dim);
        for (Index l = 0; l < c.layers; ++l) checkpoint_.layers.push_back(read_layer(l));
        check_all_used();
        checkpoint_.format = "GGUF " + std::to_string(file_.version()) + ", " + most_frequent_type();
        checkpoint_.files = std::move(file_).take_mapped_files();
        return std::move(checkpoint_);
    }

    Config read_config() && {
        read_divisors();
        return std::move(checkpoint_.config);
    }

private:
    void read_divisors() {
        Config& c = checkpoint_.config;
        const auto read = [&](const char* name, std::vector<double>& divisors) {
            const float* const list = vector(name, c.rotation() / 2);
            divisors.assign(list, list + c.rotation() / 2);
        };
        if (c.rope_scaling.type == RopeScaling::Type::longrope) {
            read("rope_factors_short.weight", c.rope_scaling.divisors);
            read("rope_factors_long.weight", c.rope_scaling.long_divisors);
        } else if (file_.find_tensor("rope_freqs.weight") != nullptr) {
            read("rope_freqs.weight", c.rope_scaling.divisors);
        }
        check_config(c, checkpoint_.path);
    }

    LayerWeights read_layer(Index number) {
        const Config& c = checkpoint_.config;
        const std::string layer = "blk." + std::to_string(number) + ".";
        LayerWeights weights;
        weights.attention_norm = vector(layer + "attn_norm.weight", c.dim);
        read_queries_keys_values(layer, weights);
        weights.wo = matrix(layer + "attn_output.weight", c.dim, c.query_dim());
        if (c.output_bias) weights.o_bias = vector(layer + "attn_output.bias", c.dim);
        if (c.head_norms) {
            weights.q_norm = vector(layer + "attn_q_norm.weight", c.head_dim);
            weights.k_norm = vector(layer + "attn_k_norm.weight", c.head_dim);
        }
        weights.ffn_norm = vector(layer + "ffn_norm.weight", c.dim);
        if (c.output_norms) {
            weights.attention_output_norm = vector(layer + "post_attention_norm.weight", c.dim);
            weights.ffn_output_norm = vector(layer + "post_ffw_norm.weight", c.dim);
        }
        if (c.joined_projections) {
            weights.gate_up = matrix(layer + "ffn_up.weight", 2 * c.hidden, c.dim);
        } else {
            weights.gate = matrix(layer + "ffn_gate.weight", c.hidden, c.dim);
            weights.up = matrix(layer + "ffn_up.weight", c.hidden, c.dim);
        }
        weights.down = matrix(layer + "ffn_down.weight", c.dim, c.hidden);
        if (c.feed_forward_bias) {
            weights.gate_bias = vector(layer + "ffn_gate.bias", c.hidden);
            weights.up_bias = vector(layer + "ffn_up.bias", c.hidden);
            weights.down_bias = vector(layer + "ffn_down.bias", c.dim);
        }
        weights.split_joined(c);
        return weights;
    }

    // Joined in Phi-3's files, and in some of other architectures.
    void read_queries_keys_values(const std::string& layer, LayerWeights& weights) {
        const Config& c = checkpoint_.config;
        const Index rows = c.query_dim() + 2 * c.kv_dim();
        if (file_.find_tensor(layer + "attn_qkv.weight") != nullptr) {
            weights.qkv = matrix(layer + "attn_qkv.weight", rows, c.dim);
        } else {
            weights.wq = matrix(layer + "attn_q.weight", c.query_dim(), c.dim);
            weights.wk = matrix(layer + "attn_k.weight", c.kv_dim(), c.dim);
            weights.wv = matrix(layer + "attn_v.weight", c.kv_dim(), c.dim);
        }
        if (!c.attention_bias) return;
        if (file_.find_tensor(layer + "attn_qkv.bias") != nullptr) {
            weights.q_bias = vector(layer + "attn_qkv.bias", rows);
            weights.k_bias = weights.q_bias + c.query_dim();
            weights.v_bias = weights.k_bias + c.kv_dim();
        } else {
            weights.q_bias = vector(layer + "attn_q.bias", c.query_dim());
            weights.k_bias = vector(layer + "attn_k.bias", c.kv_dim());
            weights.v_bias = vector(layer + "attn_v.bias", c.kv_dim());
        }
    }

    Weights matrix(const std::string& name, Index rows, Index columns) {
        const Weights found = tensor(name, rows, columns);
        bytes_of_type_[static_cast<std::size_t>(found.type)] += found.bytes();
        return found;
    }

    const float* vector(const std::string& name, Index size) {
        const Weights found = tensor(name, 1, size);
        float* const values = checkpoint_.allocate_floats(size);
        dequantize(found, 0, 0, size, values);
        return values;
    }

    Weights tensor(const std::string& name, Index rows, Index columns) {
        const GgufTensor* const found = file_.find_tensor(name);
        if (found == nullptr) file_.fail("the tensor " + name + " is missing");
        if (!found->type) {
            file_.fail("the tensor " + name + " is " + found->type_name + "; " + list_of_types() + " are supported");
        }
        const GgufTensor::Shape expected{columns, rows, 1, 1};
        if (found->shape != expected) {
            file_.fail("the tensor " + name + " is " + to_string(found->shape) + ", must be " + to_string(expected) +
                       " (columns first)");
        }
        used_.insert(found->name);
        return checkpoint_.aligned({found->data.data(), *found->type, rows, columns});
    }

    // A weight that the model does not know would change its results.
    void check_all_used() const {
        for (const auto& [name, tensor] : file_.tensors()) {
            // Early files list the rotary frequencies of each layer, which follow from the base.
            const bool is_frequencies = name.ends_with(".attn_rot_embd") || name.ends_with(".attn_rot_embd.weight");
            if (!used_.contains(name) && !is_frequencies) {
                file_.fail("the tensor " + printable(name) + " belongs to nothing that is supported");
            }
        }
    }

    const char* most_frequent_type() const {
        const auto most = std::max_element(bytes_of_type_.begin(), bytes_of_type_.end()) - bytes_of_type_.begin();
        return format_of(static_cast<WeightType>(most)).name;
    }

    GgufFile file_;
    Checkpoint checkpoint_;
    std::set<std::string_view> used_;
    std::array<Index, weight_types> bytes_of_type_{};
};

std::vector<std::string> copies(const std::vector<std::string_view>& views) { return {views.begin(), views.end()}; }

}  // namespace

Checkpoint read_gguf(const std::string& path) { return GgufReader(path).read(); }

Config read_gguf_config(const std::string& path) { return GgufReader(path).read_config(); }

bool is_gguf(const std::string& path) {
    const MappedFile file(path);
    return file.bytes().size() >= 4 && std::memcmp(file.bytes().data(), "GGUF", 4) == 0;
}

GgufVocabulary read_gguf_vocabulary(const std::string& path) {
    const GgufFile file(path);
    GgufVocabulary vocabulary;
    vocabulary.model = require_key(file, "tokenizer.ggml.model", file.find_string("tokenizer.ggml.model"));
    vocabulary.pre = file.find_string("tokenizer.ggml.pre").value_or("");
    vocabulary.tokens = copies(require_key(file, "tokenizer.ggml.tokens", file.find_strings("tokenizer.ggml.tokens")));
    vocabulary.scores = file.find_floats("tokenizer.ggml.scores").value_or(std::vector<float>{});
    vocabulary.types = file.find_int32s("tokenizer.ggml.token_type").value_or(std::vector<std::int32_t>{});
    vocabulary.merges = copies(file.find_strings("tokenizer.ggml.merges").value_or(std::vector<std::string_view>{}));
    const std::size_t tokens = vocabulary.tokens.size();
    const auto check_count = [&](const char* key, std::size_t count) {
        if (count != 0 && count != tokens) {
            file.fail(std::string(key) + " has " + std::to_string(count) + " elements, must have one for each of the " +
                      std::to_string(tokens) + " tokens");
        }
    };
    check_count("tokenizer.ggml.scores", vocabulary.scores.size());
    check_count("tokenizer.ggml.token_type", vocabulary.types.size());
    // Files with SentencePiece's need not say what most have.
    const auto find = [&](const std::string& key, Token otherwise) {
        const bool has = file.find_integer(key).has_value() || vocabulary.model != "llama";
        if (!has && static_cast<std::size_t>(otherwise) < tokens) return otherwise;
        return find_gguf_token(file, key, static_cast<Index>(tokens));
    };
    vocabulary.bos = find("tokenizer.ggml.bos_token_id", 1);
    vocabulary.eos = find("tokenizer.ggml.eos_token_id", 2);
    for (const char* const kind : {"eot", "eom", "fim_pad", "fim_rep", "fim_sep"}) {
        const std::string key = std::string("tokenizer.ggml.") + kind + "_token_id";
        const Token end = find_gguf_token(file, key, static_cast<Index>(tokens));
        if (end >= 0) vocabulary.other_ends.push_back(end);
    }
    vocabulary.add_bos = file.find_flag("tokenizer.ggml.add_bos_token");
    vocabulary.add_eos = file.find_flag("tokenizer.ggml.add_eos_token");
    vocabulary.add_space_prefix = file.find_flag("tokenizer.ggml.add_space_prefix");
    return vocabulary;
}

}  // namespace llama
