// SPDX-License-Identifier: MIT
#include "freqkv_place.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>

#include "freqkv/in_place.hpp"
#include "freqkv/policy/low_pass.hpp"

namespace {

using namespace freqkv;

// Of the text that is read.
template <class T>
struct Text {
    std::optional<InPlaceCompressor<T>> compressor;
    Index entries = 0;
    Index compressions = 0;
};

struct Shape {
    int layers, capacity, kv_heads, head_dim, rotary_dim;
    float theta;
};

template <class T, class KeysOf, class ValuesOf>
int place(int pos, const Shape& shape, const KeysOf& keys_of, const ValuesOf& values_of) {
    static Text<T> text;
    try {
        if (pos == 0 || !text.compressor) {
            const RopeOptions rope{
                .head_dim = shape.head_dim, .rotated_dims = shape.rotary_dim, .base = static_cast<double>(shape.theta)};
            text = {};
            text.compressor.emplace(LowPass<>(0.5), Rope<float>(rope, shape.capacity));
        }
        if (text.entries == shape.capacity) {
            const auto rows = [&](T* data) {
                return KVView<T>::token_major(data, shape.kv_heads, shape.capacity, shape.head_dim);
            };
            for (int l = 0; l < shape.layers; ++l) {
                text.entries = text.compressor->compress(rows(keys_of(l)), rows(values_of(l)),
                                                         {.compressions = text.compressions, .layer = l});
            }
            ++text.compressions;
        }
    } catch (const std::exception& error) {  // an engine in C has nothing that it could do
        std::fprintf(stderr, "freqkv: %s\n", error.what());
        std::exit(1);
    }
    return static_cast<int>(text.entries++);
}

template <class T>
int place_in_one(int pos, T* keys, T* values, const Shape& shape) {
    const Index layer = Index{shape.capacity} * shape.kv_heads * shape.head_dim;
    return place<T>(pos, shape, [&](int l) { return keys + l * layer; }, [&](int l) { return values + l * layer; });
}

}  // namespace

int freqkv_place_f32(int pos, float* keys, float* values, int layers, int capacity, int kv_heads, int head_dim,
                     int rotary_dim, float theta) {
    return place_in_one(pos, keys, values, {layers, capacity, kv_heads, head_dim, rotary_dim, theta});
}

int freqkv_place_f16(int pos, void* keys, void* values, int layers, int capacity, int kv_heads, int head_dim,
                     int rotary_dim, float theta) {
    return place_in_one(pos, static_cast<Half*>(keys), static_cast<Half*>(values),
                        {layers, capacity, kv_heads, head_dim, rotary_dim, theta});
}

int freqkv_place_f16_blocks(int pos, void* const* keys, void* const* values, int layers, int capacity, int kv_heads,
                            int head_dim, int rotary_dim, float theta) {
    return place<Half>(
        pos, {layers, capacity, kv_heads, head_dim, rotary_dim, theta},
        [&](int l) { return static_cast<Half*>(keys[l]); }, [&](int l) { return static_cast<Half*>(values[l]); });
}
