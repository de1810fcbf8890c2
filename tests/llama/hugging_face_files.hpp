// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include "llama/model/config.hpp"

// Small files of Hugging Face models, put together byte by byte.
namespace llama::test {

template <class Number>
std::string to_bytes(const Number& number) {
    std::string bytes(sizeof number, '\0');
    std::memcpy(bytes.data(), static_cast<const void*>(&number), sizeof number);
    return bytes;
}

// A number as a file of that type holds it.
inline std::string encode_number(float value, const std::string& type) {
    if (type == "F16") return to_bytes(Eigen::half(value));
    if (type == "BF16") return to_bytes(Eigen::bfloat16(value));
    return to_bytes(value);
}

struct TestTensor {
    std::string type = "F32";
    std::vector<Index> shape;
    std::vector<float> values;

    std::string bytes() const {
        std::string bytes;
        for (const float value : values) bytes += encode_number(value, type);
        return bytes;
    }
};

using TestTensors = std::map<std::string, TestTensor>;

// Multiples of 1/8 between -1 and 1, which each of the types holds exactly.
inline TestTensor random_tensor(std::vector<Index> shape, const std::string& type, unsigned seed) {
    TestTensor tensor{type, std::move(shape), {}};
    std::size_t count = 1;
    for (const Index size : tensor.shape) count *= static_cast<std::size_t>(size);
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < count; ++i) {
        tensor.values.push_back(static_cast<float>(static_cast<int>(random() % 17) - 8) / 8);
    }
    return tensor;
}

inline std::string with_header(std::string header, const std::string& data) {
    return to_bytes(static_cast<std::uint64_t>(header.size())) + header + data;
}

// `misaligned`: the data begin at an odd byte of the file.
inline std::string make_safetensors(const TestTensors& tensors, bool misaligned = false) {
    nlohmann::ordered_json header{{"__metadata__", {{"format", "pt"}}}};
    std::string data;
    for (const auto& [name, tensor] : tensors) {
        const std::size_t begin = data.size();
        data += tensor.bytes();
        header[name] = {{"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
    }
    std::string text = header.dump();
    while (text.size() % 8 != (misaligned ? 1u : 0u)) text += ' ';
    return with_header(text, data);
}

// Width 8, 2 layers, 4 heads, 2 of them for keys and values, feed-forward width 12, 10 tokens.
inline nlohmann::json small_config(const std::string& architecture = "LlamaForCausalLM") {
    return {{"architectures", {architecture}},
            {"hidden_size", 8},
            {"intermediate_size", 12},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"vocab_size", 10},
            {"max_position_embeddings", 64}};
}

inline TestTensors small_model(const std::string& type = "F32", bool biases = false, bool classifier = true) {
    TestTensors tensors;
    unsigned seed = 0;
    const auto add = [&](const std::string& name, std::vector<Index> shape) {
        tensors[name] = random_tensor(std::move(shape), type, ++seed);
    };
    add("model.embed_tokens.weight", {10, 8});
    for (int l = 0; l < 2; ++l) {
        const std::string layer = "model.layers." + std::to_string(l) + ".";
        add(layer + "input_layernorm.weight", {8});
        add(layer + "post_attention_layernorm.weight", {8});
        add(layer + "self_attn.q_proj.weight", {8, 8});
        add(layer + "self_attn.k_proj.weight", {4, 8});
        add(layer + "self_attn.v_proj.weight", {4, 8});
        add(layer + "self_attn.o_proj.weight", {8, 8});
        if (biases) {
            add(layer + "self_attn.q_proj.bias", {8});
            add(layer + "self_attn.k_proj.bias", {4});
            add(layer + "self_attn.v_proj.bias", {4});
        }
        add(layer + "mlp.gate_proj.weight", {12, 8});
        add(layer + "mlp.up_proj.weight", {12, 8});
        add(layer + "mlp.down_proj.weight", {8, 12});
    }
    add("model.norm.weight", {8});
    if (classifier) add("lm_head.weight", {10, 8});
    return tensors;
}

}  // namespace llama::test
