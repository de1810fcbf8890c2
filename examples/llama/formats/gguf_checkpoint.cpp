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

#include "llama/formats/gguf_file.hpp"
#include "llama/model/dequantize.hpp"

namespace llama {

namespace {

/// A required value: of what GgufFile::find_... returns.
template <class Value>
Value require_key(const GgufFile& file, const std::string& key, std::optional<Value> value) {
    if (!value) file.fail(key + " is missing");
    return *std::move(value);
}

Token find_token(const GgufFile& file, const std::string& key, Index vocabulary) {
    const Index token = file.find_integer(key).value_or(-1);
    if (token < -1 || token >= vocabulary) {
        file.fail(key + " is " + std::to_string(token) + ", must be below the size of the vocabulary, which is " +
                  std::to_string(vocabulary));
    }
    return static_cast<Token>(token);
}

// "F32, F16 and BF16"
std::string list_of_types() {
    std::string list;
    for (std::size_t i = 0; i < weight_types; ++i) {
        if (i > 0) list += i + 1 < weight_types ? ", " : " and ";
        list += weight_formats[i].name;
    }
    return list;
}

// The Config of the keys below general.architecture.
class ConfigReader {
public:
    explicit ConfigReader(const GgufFile& file) : file_(file) {}

    Config read() && {
        check_kind();
        read_sizes();
        read_rope();
        check_config(config_, file_.path());
        read_special_tokens();
        return std::move(config_);
    }

private:
    void check_kind() {
        const std::string_view architecture =
            require_key(file_, "general.architecture", file_.find_string("general.architecture"));
        if (architecture == "qwen2") {
            config_.rope_pairing = freqkv::RopePairing::half_split;
        } else if (architecture == "llama") {
            // The rows of wq and wk are in the order of the original weights, not of Hugging Face.
            config_.rope_pairing = freqkv::RopePairing::adjacent;
        } else {
            file_.fail("the architecture is " + printable(architecture) + "; llama and qwen2 are supported");
        }
        prefix_ = std::string(architecture) + ".";
        if (const Index parts = file_.find_integer("split.count").value_or(1); parts > 1) {
            file_.fail("one of " + std::to_string(parts) + " parts of a model, which have to be merged into one file");
        }
        if (const Index experts = integer("expert_count", 0); experts > 0) {
            file_.fail("a mixture of " + std::to_string(experts) + " experts, which is not supported");
        }
    }

    void read_sizes() {
        Config& c = config_;
        c.dim = integer("embedding_length");
        c.hidden = integer("feed_forward_length");
        c.layers = integer("block_count");
        c.heads = integer("attention.head_count");
        c.kv_heads = integer("attention.head_count_kv", c.heads);
        c.context = integer("context_length");
        c.sliding_window = integer("attention.sliding_window", 0);
        c.norm_epsilon = number("attention.layer_norm_rms_epsilon", c.norm_epsilon);
        c.head_dim = integer("attention.key_length", c.heads > 0 ? c.dim / c.heads : 0);
        for (const char* const same : {"attention.value_length", "rope.dimension_count"}) {
            if (const Index value = integer(same, c.head_dim); value != c.head_dim) {
                file_.fail(prefix_ + same + " is " + std::to_string(value) + ", must be the size of a head, which is " +
                           std::to_string(c.head_dim));
            }
        }
        const GgufTensor* const embedding = file_.find_tensor("token_embd.weight");
        if (embedding == nullptr) file_.fail("the tensor token_embd.weight is missing");
        c.vocabulary = embedding->shape[1];
        c.shared_classifier = file_.find_tensor("output.weight") == nullptr;
        c.attention_bias = file_.find_tensor("blk.0.attn_q.bias") != nullptr;
    }

    void read_rope() {
        Config& c = config_;
        RopeScaling& scaling = c.rope_scaling;
        c.rope_base = number("rope.freq_base", c.rope_base);
        // The older key came before there were types, and was for the linear one.
        scaling.factor = number("rope.scaling.factor", number("rope.scale_linear", 1));
        const std::string_view type = file_.find_string(prefix_ + "rope.scaling.type").value_or("linear");
        if (type == "none" || (type == "linear" && scaling.factor == 1)) {
            scaling.type = RopeScaling::Type::none;
        } else if (type == "linear") {
            scaling.type = RopeScaling::Type::linear;
        } else if (type == "yarn") {
            scaling.type = RopeScaling::Type::yarn;
        } else {
            file_.fail(prefix_ + "rope.scaling.type is " + printable(type) + "; none, linear and yarn are supported");
        }
        const double attention = number("rope.scaling.attn_factor", 1) * number("rope.scaling.yarn_attn_factor", 1);
        if (scaling.type == RopeScaling::Type::yarn) {
            read_yarn(attention);
        } else if (attention != 1) {
            file_.fail(prefix_ + "rope.scaling.attn_factor is " + std::to_string(attention) +
                       ", must be 1 unless the type is yarn");
        }
    }

    void read_yarn(double attention) {
        RopeScaling& scaling = config_.rope_scaling;
        scaling.original_context = integer("rope.scaling.original_context_length", config_.context);
        scaling.beta_fast = number("rope.scaling.yarn_beta_fast", scaling.beta_fast);
        scaling.beta_slow = number("rope.scaling.yarn_beta_slow", scaling.beta_slow);
        // GGUF has what comes on top of the factor that follows from the scaling.
        if (!(attention > 0)) {
            file_.fail(prefix_ + "rope.scaling.attn_factor is " + std::to_string(attention) + ", must be positive");
        }
        if (attention != 1) scaling.attention_factor = attention * (1 + 0.1 * std::log(scaling.factor));
        if (const double ramp = number("rope.scaling.yarn_ext_factor", 1); ramp >= 0 && ramp != 1) {
            file_.fail(prefix_ + "rope.scaling.yarn_ext_factor is " + std::to_string(ramp) + ", must be 1");
        }
    }

    void read_special_tokens() {
        config_.begin_of_text = find_token(file_, "tokenizer.ggml.bos_token_id", config_.vocabulary);
        for (const char* const key :
             {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
            const Token token = find_token(file_, key, config_.vocabulary);
            std::vector<Token>& ends = config_.end_of_text;
            if (token >= 0 && std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
        }
    }

    Index integer(const char* key) const {
        return require_key(file_, prefix_ + key, file_.find_integer(prefix_ + key));
    }
    Index integer(const char* key, Index otherwise) const {
        return file_.find_integer(prefix_ + key).value_or(otherwise);
    }
    double number(const char* key, double otherwise) const {
        return file_.find_number(prefix_ + key).value_or(otherwise);
    }

    const GgufFile& file_;
    std::string prefix_;
    Config config_;
};

class GgufReader {
public:
    explicit GgufReader(const std::string& path) : file_(path) {
        checkpoint_.path = path;
        checkpoint_.config = ConfigReader(file_).read();
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
        checkpoint_.files.push_back(std::move(file_).take_mapped_file());
        return std::move(checkpoint_);
    }

    Config read_config() && {
        read_divisors();
        return std::move(checkpoint_.config);
    }

private:
    void read_divisors() {
        Config& c = checkpoint_.config;
        if (file_.find_tensor("rope_freqs.weight") == nullptr) return;
        const float* const divisors = vector("rope_freqs.weight", c.head_dim / 2);
        c.rope_scaling.divisors.assign(divisors, divisors + c.head_dim / 2);
        check_config(c, checkpoint_.path);
    }

    LayerWeights read_layer(Index number) {
        const Config& c = checkpoint_.config;
        const std::string layer = "blk." + std::to_string(number) + ".";
        LayerWeights weights;
        weights.attention_norm = vector(layer + "attn_norm.weight", c.dim);
        weights.wq = matrix(layer + "attn_q.weight", c.query_dim(), c.dim);
        weights.wk = matrix(layer + "attn_k.weight", c.kv_dim(), c.dim);
        weights.wv = matrix(layer + "attn_v.weight", c.kv_dim(), c.dim);
        weights.wo = matrix(layer + "attn_output.weight", c.dim, c.query_dim());
        if (c.attention_bias) {
            weights.q_bias = vector(layer + "attn_q.bias", c.query_dim());
            weights.k_bias = vector(layer + "attn_k.bias", c.kv_dim());
            weights.v_bias = vector(layer + "attn_v.bias", c.kv_dim());
        }
        weights.ffn_norm = vector(layer + "ffn_norm.weight", c.dim);
        weights.gate = matrix(layer + "ffn_gate.weight", c.hidden, c.dim);
        weights.down = matrix(layer + "ffn_down.weight", c.dim, c.hidden);
        weights.up = matrix(layer + "ffn_up.weight", c.hidden, c.dim);
        return weights;
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
        return find_token(file, key, static_cast<Index>(tokens));
    };
    vocabulary.bos = find("tokenizer.ggml.bos_token_id", 1);
    vocabulary.eos = find("tokenizer.ggml.eos_token_id", 2);
    for (const char* const kind : {"eot", "eom", "fim_pad", "fim_rep", "fim_sep"}) {
        const std::string key = std::string("tokenizer.ggml.") + kind + "_token_id";
        const Token end = find_token(file, key, static_cast<Index>(tokens));
        if (end >= 0) vocabulary.other_ends.push_back(end);
    }
    vocabulary.add_bos = file.find_flag("tokenizer.ggml.add_bos_token");
    vocabulary.add_eos = file.find_flag("tokenizer.ggml.add_eos_token");
    vocabulary.add_space_prefix = file.find_flag("tokenizer.ggml.add_space_prefix");
    return vocabulary;
}

}  // namespace llama
