// SPDX-License-Identifier: MIT
#pragma once

#include <ggml-backend.h>
#include <ggml.h>
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "freqkv/block_view.hpp"
#include "freqkv/detail/cache/dense_rows.hpp"
#include "freqkv/ggml.hpp"
#include "freqkv/hadamard_view.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/stored_element.hpp"
#include "freqkv/view.hpp"

// Where libllama keeps keys and values, and what they are, as its graph tells.
namespace freqkv::llama {

inline void refuse_if(bool condition, const std::string& why) {
    if (condition) throw std::runtime_error("the cache of this model cannot be compressed: " + why);
}

/// The keys or the values of a layer.
struct CacheTensor {
    ggml_tensor* tensor = nullptr;  ///< [kv_heads * dim, cells, streams]
    Index dim = 0;                  ///< of a head
    Index hadamard = 1;             ///< blocks of so many elements are transformed
    bool transposed = false;        ///< in memory [kv_heads * dim][cells]: values without flash attention
};

struct CacheTensors {
    Index number = 0;  ///< of the layer
    Index kv_heads = 0;
    CacheTensor keys;
    CacheTensor values;
    std::optional<RopeOptions> rope;  ///< none: keys are not rotated
};

/// Reads the caches of all layers from the first graph that is computed. Its address is the user data of on_node(),
/// which hands on to the program's own callback.
class CacheReader {
public:
    CacheReader(const llama_model* model, const llama_context_params& params)
        : model_(model), next_(params.cb_eval), next_data_(params.cb_eval_user_data) {}

    static bool on_node(ggml_tensor* node, bool ask, void* data) {
        auto& self = *static_cast<CacheReader*>(data);
        if (ask && !self.finished_) self.read(*node);
        return self.next_ != nullptr ? self.next_(node, ask, self.next_data_) : !ask;
    }

    /// Behind the first graph: throws std::runtime_error if a layer's cache is not understood.
    void finish() {
        finished_ = true;
        refuse_if(!refusal_.empty(), refusal_);
        refuse_if(layers_.empty(), "nothing in its graph writes cache_k_l0 or the like");
        std::sort(layers_.begin(), layers_.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
        const std::optional<RopeOptions>* rope = nullptr;
        for (CacheTensors& layer : layers_) {
            const std::string name = "layer " + std::to_string(layer.number) + " ";
            refuse_if(layer.keys.tensor == nullptr || layer.values.tensor == nullptr,
                      name + "has no keys or no values of its own (MLA)");
            refuse_if(layer.keys.tensor->ne[0] != layer.kv_heads * layer.keys.dim ||
                          layer.values.tensor->ne[0] % layer.kv_heads != 0,
                      name + "has rows of another size than its heads");
            layer.values.dim = layer.values.tensor->ne[0] / layer.kv_heads;
            if (!layer.rope) continue;
            refuse_if(rope != nullptr && rope_frequencies(**rope) != rope_frequencies(*layer.rope),
                      name + "rotates other than those before");
            rope = &layer.rope;
        }
    }
    const std::vector<CacheTensors>& layers() const { return layers_; }

private:
    // Not by exceptions, for libllama calls it.
    void read(const ggml_tensor& node) noexcept {
        if (node.op != GGML_OP_SET_ROWS || node.view_src == nullptr) return;
        int number = 0;
        char kind = 0;
        if (std::sscanf(node.view_src->name, "cache_%c_l%d", &kind, &number) != 2) return;
        CacheTensors& layer = find(number);
        CacheTensor& cache = kind == 'k' ? layer.keys : layer.values;
        if (cache.tensor != nullptr && cache.tensor != node.view_src) refusal_ = "it has several caches of one layer";
        cache.tensor = node.view_src;
        cache.transposed = node.ne[0] == 1;
        const ggml_tensor* const rope = find_rope(node.src[0], cache);
        if (kind != 'k') return;
        if (rope == nullptr) {
            layer.kv_heads = llama_model_n_head_kv(model_);
            cache.dim = cache.tensor->ne[0] / std::max<Index>(layer.kv_heads, 1);
        } else {
            layer.kv_heads = rope->ne[1];
            cache.dim = rope->ne[0];
            layer.rope = read_rope(*rope);
        }
    }

    CacheTensors& find(int number) {
        for (CacheTensors& layer : layers_) {
            if (layer.number == number) return layer;
        }
        layers_.emplace_back().number = number;
        return layers_.back();
    }

    // The rotation of what is written, if there is one; notes a Hadamard transform on the way.
    const ggml_tensor* find_rope(const ggml_tensor* from, CacheTensor& cache) {
        bool changed = false;  // behind the rotation
        for (int steps = 0; from != nullptr && steps < 16; ++steps) {
            if (from->op == GGML_OP_ROPE) {
                if (changed) refusal_ = "its keys are changed behind their rotation";
                return from;
            }
            if (from->op == GGML_OP_MUL_MAT) {
                if (std::strstr(from->src[0]->name, "attn_inp_") == nullptr) return nullptr;  // the projection
                cache.hadamard = from->src[0]->ne[0];
                from = from->src[1];
                continue;
            }
            changed = changed || !(from->op == GGML_OP_VIEW || from->op == GGML_OP_RESHAPE || from->op == GGML_OP_CONT);
            from = from->src[0];
        }
        return nullptr;
    }

    std::optional<RopeOptions> read_rope(const ggml_tensor& node) {
        const auto number = [&](int i) { return node.op_params[i]; };
        const auto real = [&](int i) {
            float value = 0;
            std::memcpy(&value, node.op_params + i, sizeof value);
            return value;
        };
        const int rotated = number(1), mode = number(2);
        if (mode != GGML_ROPE_TYPE_NORMAL && mode != GGML_ROPE_TYPE_NEOX)
            refusal_ = "its rotation has sections (M-RoPE)";
        if (number(15) != 0) refusal_ = "it rotates a part of a key that is not the first";
        const float base = real(5), scale = real(6), extrapolated = real(7);
        std::vector<float> divisors(static_cast<std::size_t>(rotated / 2), 1.0F);
        if (node.src[2] != nullptr) {
            ggml_backend_tensor_get(node.src[2], divisors.data(), 0, divisors.size() * sizeof(float));
        }
        float ramp[2] = {0, 0};
        ggml_rope_yarn_corr_dims(rotated, number(4), base, real(9), real(10), ramp);
        RopeOptions options{.head_dim = node.ne[0], .rotated_dims = rotated, .base = static_cast<double>(base)};
        options.pairing = mode == GGML_ROPE_TYPE_NEOX ? RopePairing::half_split : RopePairing::adjacent;
        for (std::size_t i = 0; i < divisors.size(); ++i) {
            const double at =
                (static_cast<double>(i) - ramp[0]) / std::max(0.001, static_cast<double>(ramp[1]) - ramp[0]);
            const double part = extrapolated * (1 - std::clamp(at, 0.0, 1.0));
            options.frequency_factors.push_back(divisors[i] / (scale * (1 - part) + part));
        }
        return options;
    }

    const llama_model* model_;
    ggml_backend_sched_eval_callback next_;
    void* next_data_;
    std::vector<CacheTensors> layers_;
    std::string refusal_;
    bool finished_ = false;
};

/// Calls f with a view of the first `tokens` cells of a sequence, [kv_heads, tokens, dim]. What lies in the memory of a
/// device is brought here, and back behind f.
template <class F>
void with_rows(const CacheTensor& cache, Index kv_heads, llama_seq_id sequence, Index tokens, const F& f) {
    ggml_tensor& tensor = *cache.tensor;
    const Index cells = tensor.ne[1], row = kv_heads * cache.dim;
    const std::size_t first = static_cast<std::size_t>(sequence) * tensor.nb[2];
    auto* memory = static_cast<std::byte*>(tensor.data) + first;
    std::vector<std::byte> staging;
    const bool is_host = ggml_backend_buffer_is_host(tensor.buffer);
    if (!is_host) {
        staging.resize(cache.transposed ? tensor.nb[2] : static_cast<std::size_t>(tokens) * tensor.nb[1]);
        ggml_backend_tensor_get(&tensor, staging.data(), first, staging.size());
        memory = staging.data();
    }
    const auto dense = [&]<class T>(T* data) {
        refuse_if(cache.hadamard != 1, "it transforms a cache that is not quantised");
        f(cache.transposed ? KVView<T>(data, kv_heads, tokens, cache.dim, cache.dim * cells, 1, cells)
                           : KVView<T>(data, kv_heads, tokens, cache.dim, cache.dim, row, 1));
    };
    const auto blocks = [&]<class B>(B* data) {
        refuse_if(cache.transposed || cache.dim % B::elements != 0, "blocks of a quantised cache go across heads");
        f(HadamardView(BlockView<B>::token_major(data, kv_heads, tokens, cache.dim), cache.hadamard));
    };
    switch (tensor.type) {
        case GGML_TYPE_F32:
            dense(reinterpret_cast<float*>(memory));
            break;
        case GGML_TYPE_F16:
            dense(reinterpret_cast<Half*>(memory));
            break;
        case GGML_TYPE_BF16:
            dense(reinterpret_cast<BFloat16*>(memory));
            break;
        case GGML_TYPE_Q8_0:
            blocks(reinterpret_cast<ggml::Q8_0*>(memory));
            break;
        case GGML_TYPE_Q4_0:
            blocks(reinterpret_cast<ggml::Q4_0*>(memory));
            break;
        default:
            refuse_if(true, std::string("it is in ") + ggml_type_name(tensor.type) +
                                "; F32, F16, BF16, Q8_0 and Q4_0 are supported");
    }
    if (!is_host) ggml_backend_tensor_set(&tensor, staging.data(), first, staging.size());
}

/// Whether the keys at positions 0 … count - 1 are one key, rotated; as well as their type can say.
template <class Rows>
bool differ_by_rotation(const CacheTensors& layer, const Rows& keys, Index count) {
    const auto rows = freqkv::detail::as_rows(keys);
    const auto dim = static_cast<std::size_t>(layer.keys.dim);
    std::optional<Rope<float>> rope;
    if (layer.rope) rope.emplace(*layer.rope);
    std::vector<float> first(dim), other(dim);
    double square = 0, error = 0;
    for (Index h = 0; h < layer.kv_heads; ++h) {
        rows.load(h, 0, first.data());
        for (Index t = 1; t < count; ++t) {
            rows.load(h, t, other.data());
            if (rope) rope->unrotate(KVView<float>(other.data(), 1, 1, layer.keys.dim), t);
            for (std::size_t d = 0; d < dim; ++d) {
                square += static_cast<double>(first[d]) * static_cast<double>(first[d]);
                error += std::pow(static_cast<double>(other[d] - first[d]), 2);
            }
        }
    }
    const double allowed = ggml_is_quantized(layer.keys.tensor->type) ? 0.05 : 1e-4;
    return square > 0 && error < allowed * square;
}

}  // namespace freqkv::llama
