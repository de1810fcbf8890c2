// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_config.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama {

namespace {

enum class GgufFamily : std::uint8_t { llama, qwen2, qwen3, smollm3, phi3, gemma2, gemma3 };

struct GgufArchitecture {
    GgufFamily family;
    const char* name;
    freqkv::RopePairing pairing;
};

// Where pairs are adjacent, the rows of wq and wk are in the order of the original weights, not of Hugging Face.
constexpr GgufArchitecture gguf_architectures[] = {
    {GgufFamily::llama, "llama", freqkv::RopePairing::adjacent},
    {GgufFamily::qwen2, "qwen2", freqkv::RopePairing::half_split},
    {GgufFamily::qwen3, "qwen3", freqkv::RopePairing::half_split},
    {GgufFamily::smollm3, "smollm3", freqkv::RopePairing::adjacent},
    {GgufFamily::phi3, "phi3", freqkv::RopePairing::half_split},
    {GgufFamily::gemma2, "gemma2", freqkv::RopePairing::half_split},
    {GgufFamily::gemma3, "gemma3", freqkv::RopePairing::half_split},
};

// The Config of the keys below general.architecture.
class ConfigReader {
public:
    explicit ConfigReader(const GgufFile& file) : file_(file) {}

    Config read() && {
        check_kind();
        read_sizes();
        read_tensors();
        read_rope();
        check_config(config_, file_.path());  // from here on there are not more layers than there may be
        if (family_ == GgufFamily::smollm3) read_unrotated_layers();
        if (is_gemma()) read_gemma();
        check_config(config_, file_.path());
        read_special_tokens();
        return std::move(config_);
    }

private:
    bool is_gemma() const { return family_ == GgufFamily::gemma2 || family_ == GgufFamily::gemma3; }

    void check_kind() {
        const std::string_view name =
            require_key(file_, "general.architecture", file_.find_string("general.architecture"));
        const auto* const found = std::find_if(std::begin(gguf_architectures), std::end(gguf_architectures),
                                               [&](const GgufArchitecture& known) { return name == known.name; });
        if (found == std::end(gguf_architectures)) {
            std::string known;
            for (const GgufArchitecture& architecture : gguf_architectures) {
                known += (known.empty() ? "" : ", ") + std::string(architecture.name);
            }
            file_.fail("the architecture is " + printable(name) + "; supported are " + known);
        }
        family_ = found->family;
        config_.rope_pairing = found->pairing;
        prefix_ = std::string(name) + ".";
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
        c.norm_epsilon = number("attention.layer_norm_rms_epsilon", c.norm_epsilon);
        c.head_dim = integer("attention.key_length", c.heads > 0 ? c.dim / c.heads : 0);
        const bool turns_in_part = family_ == GgufFamily::phi3 || is_gemma();
        c.rotated_dims = integer("rope.dimension_count", c.head_dim);
        for (const char* const same :
             {"attention.value_length", "attention.key_length_swa", "attention.value_length_swa",
              turns_in_part ? "rope.dimension_count_swa" : "rope.dimension_count"}) {
            const Index wanted = same == std::string_view("rope.dimension_count_swa") ? c.rotated_dims : c.head_dim;
            if (const Index value = integer(same, wanted); value != wanted) {
                file_.fail(prefix_ + same + " is " + std::to_string(value) + ", must be the size of a head, which is " +
                           std::to_string(wanted));
            }
        }
        if (!is_gemma()) c.sliding_window = integer("attention.sliding_window", 0);
    }

    bool is_there(const char* tensor) const { return file_.find_tensor(tensor) != nullptr; }

    // What the keys do not say and the tensors do.
    void read_tensors() {
        Config& c = config_;
        const GgufTensor* const embedding = file_.find_tensor("token_embd.weight");
        if (embedding == nullptr) file_.fail("the tensor token_embd.weight is missing");
        c.vocabulary = embedding->shape[1];
        c.shared_classifier = !is_there("output.weight");
        c.attention_bias = is_there("blk.0.attn_q.bias") || is_there("blk.0.attn_qkv.bias");
        c.output_bias = is_there("blk.0.attn_output.bias");
        c.feed_forward_bias = is_there("blk.0.ffn_gate.bias");
        c.head_norms = family_ == GgufFamily::qwen3 || family_ == GgufFamily::gemma3;
        c.joined_projections = family_ == GgufFamily::phi3;
    }

    void read_rope() {
        Config& c = config_;
        RopeScaling& scaling = c.rope_scaling;
        c.rope_base = number("rope.freq_base", c.rope_base);
        // The older key came before there were types, and was for the linear one.
        scaling.factor = number("rope.scaling.factor", number("rope.scale_linear", 1));
        const std::string_view type = file_.find_string(prefix_ + "rope.scaling.type").value_or("linear");
        const double attention = number("rope.scaling.attn_factor", 1) * number("rope.scaling.yarn_attn_factor", 1);
        // Files say "linear" by silence, and have the lists all the same.
        if (is_there("rope_factors_long.weight") || is_there("rope_factors_short.weight")) {
            return read_longrope(type, attention);
        }
        if (type == "none" || (type == "linear" && scaling.factor == 1)) {
            scaling.type = RopeScaling::Type::none;
        } else if (type == "linear") {
            scaling.type = RopeScaling::Type::linear;
        } else if (type == "yarn") {
            scaling.type = RopeScaling::Type::yarn;
        } else if (type == "longrope") {
            file_.fail("the tensor rope_factors_long.weight is missing, which " + prefix_ +
                       "rope.scaling.type longrope needs");
        } else {
            file_.fail(prefix_ + "rope.scaling.type is " + printable(type) +
                       "; none, linear, yarn and longrope are supported");
        }
        if (scaling.type == RopeScaling::Type::yarn) {
            read_yarn(attention);
        } else if (attention != 1) {
            file_.fail(prefix_ + "rope.scaling.attn_factor is " + std::to_string(attention) +
                       ", must be 1 unless the type is yarn or longrope");
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

    void read_longrope(std::string_view type, double attention) {
        RopeScaling& scaling = config_.rope_scaling;
        if (type == "yarn" || scaling.factor != 1) {
            file_.fail(prefix_ + "rope.scaling.type is " + printable(type) + " by " + std::to_string(scaling.factor) +
                       ", must not be together with rope_factors_long.weight");
        }
        scaling.type = RopeScaling::Type::longrope;
        scaling.original_context = integer("rope.scaling.original_context_length", config_.context);
        if (!(attention > 0)) {
            file_.fail(prefix_ + "rope.scaling.attn_factor is " + std::to_string(attention) + ", must be positive");
        }
        scaling.attention_factor = attention;
    }

    // llama.cpp has no key for them.
    void read_unrotated_layers() {
        for (Index l = 0; l < config_.layers; ++l) config_.unrotated_layers.push_back((l + 1) % 4 == 0);
    }

    void read_gemma() {
        Config& c = config_;
        const bool second = family_ == GgufFamily::gemma2;
        c.output_norms = true;
        c.activation = Activation::gelu_tanh;
        c.embedding_scale = std::sqrt(static_cast<double>(c.dim));
        // Of the largest models, which have no key for it: the width of a head's share of the stream.
        const Index share = c.heads > 0 ? c.dim / c.heads : 0;
        if (c.layers == (second ? 46 : 62)) c.query_scalar = static_cast<double>(share);
        c.score_cap = second ? number("attn_logit_softcapping", 50) : 0;
        c.logit_cap = number("final_logit_softcapping", second ? 30 : 0);
        c.local_window = integer("attention.sliding_window", second ? 4096 : 0);
        if (c.local_window == 0) return;
        read_local_layers(second ? 2 : 6);
        if (!second) c.local_rope_base = number("rope.freq_base_swa", 10000);
        if (second && number("rope.freq_base_swa", c.rope_base) != c.rope_base) {
            c.local_rope_base = number("rope.freq_base_swa", c.rope_base);
        }
    }

    void read_local_layers(Index period) {
        const std::string key = prefix_ + "attention.sliding_window_pattern";
        if (file_.is_array(key)) {
            config_.local_layers = file_.find_flags(key).value_or(std::vector<bool>{});
            if (static_cast<Index>(config_.local_layers.size()) != config_.layers) {
                file_.fail(key + " has " + std::to_string(config_.local_layers.size()) +
                           " elements, must have one for each of the " + std::to_string(config_.layers) + " layers");
            }
            return;
        }
        period = file_.find_integer(key).value_or(period);
        if (period < 0) file_.fail(key + " is " + std::to_string(period) + ", must not be negative");
        for (Index l = 0; l < config_.layers; ++l) {
            config_.local_layers.push_back(period == 0 || l % period < period - 1);
        }
    }

    void read_special_tokens() {
        config_.begin_of_text = find_gguf_token(file_, "tokenizer.ggml.bos_token_id", config_.vocabulary);
        for (const char* const key :
             {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
            const Token token = find_gguf_token(file_, key, config_.vocabulary);
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
    GgufFamily family_{};
    std::string prefix_;
    Config config_;
};

}  // namespace

Config read_gguf_config(const GgufFile& file) { return ConfigReader(file).read(); }

Token find_gguf_token(const GgufFile& file, const std::string& key, Index vocabulary) {
    const Index token = file.find_integer(key).value_or(-1);
    if (token < -1 || token >= vocabulary) {
        file.fail(key + " is " + std::to_string(token) + ", must be below the size of the vocabulary, which is " +
                  std::to_string(vocabulary));
    }
    return static_cast<Token>(token);
}

}  // namespace llama
