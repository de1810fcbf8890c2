// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "llama/model/weights.hpp"

namespace llama::test {

// The bytes of a plain value.
template <class T>
    requires std::is_trivially_copyable_v<T>
std::string bytes_of(const T& value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
    std::string bytes;
    for (const T& value : values) bytes += bytes_of(value);
    return bytes;
}

/// Numbers of GGUF's types of metadata.
struct GgufTypes {
    static constexpr std::uint32_t uint8 = 0, int8 = 1, uint16 = 2, int16 = 3, uint32 = 4, int32 = 5, float32 = 6,
                                   boolean = 7, string = 8, array = 9, uint64 = 10, int64 = 11, float64 = 12;

    template <class T>
    static constexpr std::uint32_t of() {
        if constexpr (std::is_same_v<T, bool>) return boolean;
        if constexpr (std::is_same_v<T, float>) return float32;
        if constexpr (std::is_same_v<T, double>) return float64;
        constexpr bool is_signed = std::is_signed_v<T>;
        switch (sizeof(T)) {
            case 1:
                return is_signed ? int8 : uint8;
            case 2:
                return is_signed ? int16 : uint16;
            case 4:
                return is_signed ? int32 : uint32;
            default:
                return is_signed ? int64 : uint64;
        }
    }
};

/// Number of a type of weights in GGML.
inline std::uint32_t ggml_type(WeightType type) {
    switch (type) {
        case WeightType::f32:
            return 0;
        case WeightType::f16:
            return 1;
        case WeightType::bf16:
            return 30;
        case WeightType::q4_0:
            return 2;
        case WeightType::q4_1:
            return 3;
        case WeightType::q5_0:
            return 6;
        case WeightType::q5_1:
            return 7;
        case WeightType::q8_0:
            return 8;
        case WeightType::iq4_nl:
            return 20;
        case WeightType::q2_k:
            return 10;
        case WeightType::q3_k:
            return 11;
        case WeightType::q4_k:
            return 12;
        case WeightType::q5_k:
            return 13;
        case WeightType::q6_k:
            return 14;
        case WeightType::iq4_xs:
            return 23;
    }
    return 0;
}

/// Puts GGUF files together, wrong ones too: members can be set to anything before bytes().
struct GgufWriter {
    struct Entry {
        std::string key;
        std::uint32_t type;
        std::string value;
    };
    struct Tensor {
        std::string name;
        std::uint32_t type;
        std::vector<std::uint64_t> shape;  // columns first
        std::string data;
        std::uint64_t offset = 0;
    };

    static std::string string(std::string_view text) {
        return bytes_of(std::uint64_t{text.size()}) + std::string(text);
    }

    static std::string array(std::uint32_t type, std::uint64_t count, const std::string& elements) {
        return bytes_of(type) + bytes_of(count) + elements;
    }

    /// Sets the value of a key, new or not.
    void set_bytes(const std::string& key, std::uint32_t type, const std::string& value) {
        remove(key);
        entries.push_back({key, type, value});
    }
    template <class T>
        requires std::is_arithmetic_v<T>
    void set(const std::string& key, T value) {
        set_bytes(key, GgufTypes::of<T>(), bytes_of(value));
    }
    void set(const std::string& key, std::string_view value) { set_bytes(key, GgufTypes::string, string(value)); }
    template <class T>
        requires std::is_arithmetic_v<T>
    void set(const std::string& key, const std::vector<T>& values) {
        set_bytes(key, GgufTypes::array, array(GgufTypes::of<T>(), values.size(), bytes_of(values)));
    }
    void set(const std::string& key, const std::vector<std::string>& values) {
        std::string elements;
        for (const std::string& value : values) elements += string(value);
        set_bytes(key, GgufTypes::array, array(GgufTypes::string, values.size(), elements));
    }

    void remove(const std::string& key) {
        std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; });
    }

    /// Adds a tensor, behind the others.
    Tensor& add(const std::string& name, std::uint32_t type, const std::vector<std::uint64_t>& shape,
                const std::string& data) {
        std::uint64_t offset = 0;
        if (!tensors.empty()) offset = align(tensors.back().offset + tensors.back().data.size());
        return tensors.emplace_back(Tensor{name, type, shape, data, offset});
    }
    Tensor& add(const std::string& name, WeightType type, const std::vector<std::uint64_t>& shape,
                const std::string& data) {
        return add(name, ggml_type(type), shape, data);
    }

    Tensor& tensor(std::string_view name) {
        for (Tensor& tensor : tensors) {
            if (tensor.name == name) return tensor;
        }
        return tensors.at(tensors.size());
    }
    void remove_tensor(std::string_view name) {
        std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
    }

    /// All before the tensors' data.
    std::string header() const {
        std::string file = magic + bytes_of(version) + bytes_of(std::uint64_t{tensors.size()}) +
                           bytes_of(std::uint64_t{entries.size()});
        for (const Entry& entry : entries) file += string(entry.key) + bytes_of(entry.type) + entry.value;
        for (const Tensor& tensor : tensors) {
            file += string(tensor.name) + bytes_of(static_cast<std::uint32_t>(tensor.shape.size())) +
                    bytes_of(tensor.shape) + bytes_of(tensor.type) + bytes_of(tensor.offset);
        }
        return file;
    }

    std::string bytes() const {
        std::string file = header();
        const std::size_t begin = align(file.size());
        file.resize(begin);
        for (const Tensor& tensor : tensors) {
            // An offset that is wrong on purpose leaves the data out.
            if (tensor.offset > std::size_t{1} << 24) continue;
            if (file.size() < begin + tensor.offset + tensor.data.size()) {
                file.resize(begin + tensor.offset + tensor.data.size());
            }
            file.replace(begin + tensor.offset, tensor.data.size(), tensor.data);
        }
        return file;
    }

    std::uint64_t align(std::uint64_t offset) const { return (offset + alignment - 1) / alignment * alignment; }

    std::string magic = "GGUF";
    std::uint32_t version = 3;
    std::uint64_t alignment = 32;  // of the data; general.alignment has to be set, too, if it is another
    std::vector<Entry> entries;
    std::vector<Tensor> tensors;
};

/// What a small model of the tests is made of.
struct GgufModelOptions {
    std::string architecture = "llama";
    WeightType type = WeightType::f32;  // of the matrices
    bool tied = false;
    bool bias = false;
    std::uint64_t dim = 16, hidden = 24, heads = 4, kv_heads = 2, layers = 2, vocabulary = 7;
};

/// Bytes of a tensor's data: weights of 16 or 32 bits are small numbers that differ, of a quantised type any.
inline std::string tensor_data(WeightType type, std::uint64_t count, std::uint32_t& seed) {
    const auto next = [&] { return seed = seed * 1664525U + 1013904223U; };
    const WeightFormat format = format_of(type);
    std::string data;
    if (type == WeightType::f32) {
        for (std::uint64_t i = 0; i < count; ++i)
            data += bytes_of(static_cast<float>(next() >> 16U) * 0x1p-18F - 0.125F);
        return data;
    }
    const std::size_t size = count / static_cast<std::size_t>(format.block) * static_cast<std::size_t>(format.bytes);
    // Without the upper two bits of the exponents of halves, so that all of them are finite and small.
    for (std::size_t i = 0; i < size; ++i) data += static_cast<char>(next() >> 24U & 0x9fU);
    return data;
}

/// A whole model with a tokenizer, valid.
inline GgufWriter small_gguf(const GgufModelOptions& options = {}) {
    const auto& [architecture, type, tied, bias, dim, hidden, heads, kv_heads, layers, vocabulary] = options;
    const auto u32 = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
    GgufWriter file;
    file.set("general.architecture", std::string_view(architecture));
    const auto set = [&](const std::string& key, auto value) { file.set(architecture + "." + key, value); };
    set("embedding_length", u32(dim));
    set("feed_forward_length", u32(hidden));
    set("block_count", u32(layers));
    set("attention.head_count", u32(heads));
    set("attention.head_count_kv", u32(kv_heads));
    set("context_length", std::uint32_t{64});
    set("attention.layer_norm_rms_epsilon", 1e-6F);
    std::vector<std::string> tokens;
    for (std::uint64_t i = 0; i < vocabulary; ++i) tokens.push_back(std::to_string(i).insert(0, 1, 't'));
    file.set("tokenizer.ggml.model", std::string_view("llama"));
    file.set("tokenizer.ggml.tokens", tokens);
    file.set("tokenizer.ggml.scores", std::vector<float>(tokens.size(), -1.5F));
    file.set("tokenizer.ggml.token_type", std::vector<std::int32_t>(tokens.size(), 1));
    file.set("tokenizer.ggml.bos_token_id", std::uint32_t{1});
    file.set("tokenizer.ggml.eos_token_id", std::uint32_t{2});

    std::uint32_t seed = 1;
    const auto matrix = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        file.add(name + ".weight", type, {columns, rows}, tensor_data(type, rows * columns, seed));
    };
    const auto vector = [&](const std::string& name, std::uint64_t size) {
        file.add(name, WeightType::f32, {size}, tensor_data(WeightType::f32, size, seed));
    };
    const std::uint64_t kv_dim = dim / heads * kv_heads;
    matrix("token_embd", vocabulary, dim);
    for (std::uint64_t l = 0; l < layers; ++l) {
        const std::string layer = "blk." + std::to_string(l) + ".";
        vector(layer + "attn_norm.weight", dim);
        matrix(layer + "attn_q", dim, dim);
        matrix(layer + "attn_k", kv_dim, dim);
        matrix(layer + "attn_v", kv_dim, dim);
        matrix(layer + "attn_output", dim, dim);
        if (bias) {
            vector(layer + "attn_q.bias", dim);
            vector(layer + "attn_k.bias", kv_dim);
            vector(layer + "attn_v.bias", kv_dim);
        }
        vector(layer + "ffn_norm.weight", dim);
        matrix(layer + "ffn_gate", hidden, dim);
        matrix(layer + "ffn_down", dim, hidden);
        matrix(layer + "ffn_up", hidden, dim);
    }
    vector("output_norm.weight", dim);
    if (!tied) matrix("output", vocabulary, dim);
    return file;
}

/// The file in `count` parts as llama.cpp splits one: the metadata are in the first, the tensors spread over all.
inline std::vector<GgufWriter> split(const GgufWriter& whole, std::size_t count) {
    std::vector<GgufWriter> parts(count);
    parts[0].entries = whole.entries;
    for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
        const GgufWriter::Tensor& tensor = whole.tensors[i];
        parts[i * count / whole.tensors.size()].add(tensor.name, tensor.type, tensor.shape, tensor.data);
    }
    for (std::size_t i = 0; i < count; ++i) {
        parts[i].set("split.no", static_cast<std::uint16_t>(i));
        parts[i].set("split.count", static_cast<std::uint16_t>(count));
        parts[i].set("split.tensors.count", static_cast<std::int32_t>(whole.tensors.size()));
    }
    return parts;
}

}  // namespace llama::test
