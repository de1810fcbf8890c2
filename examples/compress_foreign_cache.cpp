// SPDX-License-Identifier: MIT
// An engine with a cache of its own: token-major, 16-bit, keys stored after RoPE (half-split pairs, the first
// 48 of 64 dimensions). It gives its views to the library when the cache is full, and goes on behind what is
// left. docs/in_place.md explains the steps.
#include <Eigen/Core>  // for the 16-bit type
#include <algorithm>
#include <cmath>
#include <freqkv/in_place.hpp>
#include <iostream>
#include <vector>

using freqkv::Index;
using freqkv::KVView;

constexpr Index kv_heads = 4, head_dim = 64, capacity = 256, sinks = 4, recent = 16;

// The engine, as it was: freqkv knows nothing of it.
struct Engine {
    std::vector<Eigen::half> keys = std::vector<Eigen::half>(capacity * kv_heads * head_dim);    // [tokens, heads, dim]
    std::vector<Eigen::half> values = std::vector<Eigen::half>(capacity * kv_heads * head_dim);  // [tokens, heads, dim]
    Index length = 0;

    // A token's key is rotated at its place in the cache, as its query would be.
    void decode(const float* key, const float* value) {
        const Index row = length * kv_heads * head_dim;
        for (Index h = 0; h < kv_heads; ++h) {
            for (Index d = 0; d < head_dim; ++d) {
                const Index at = h * head_dim + d;
                float x = key[at];
                if (d < 48) {
                    const Index pair = d % 24;
                    const double angle =
                        static_cast<double>(length) * std::pow(10000.0, -static_cast<double>(pair) / 24);
                    const double a = key[h * head_dim + pair];
                    const double b = key[h * head_dim + pair + 24];
                    x = static_cast<float>(d < 24 ? a * std::cos(angle) - b * std::sin(angle)
                                                  : a * std::sin(angle) + b * std::cos(angle));
                }
                keys[static_cast<std::size_t>(row + at)] = Eigen::half(x);
                values[static_cast<std::size_t>(row + at)] = Eigen::half(value[at]);
            }
        }
        ++length;
    }
};

int main() {
    Engine engine;

    // 1. Once: how the engine rotates keys, and what compresses them. One compressor serves all layers.
    const freqkv::Rope<float> rope(
        {.head_dim = head_dim, .rotated_dims = 48, .base = 10000, .pairing = freqkv::RopePairing::half_split},
        capacity);
    freqkv::InPlaceCompressor<Eigen::half, freqkv::LowPass<>> compressor(freqkv::LowPass<>(0.5), rope);

    // Beside it, to check: the same text before RoPE in 32 bits.
    std::vector<float> plain_keys(engine.keys.size()), plain_values(engine.values.size());
    freqkv::InPlaceCompressor<float, freqkv::LowPass<>> plain_compressor(freqkv::LowPass<>(0.5));

    const Index tokens = 1000;
    Index compressions = 0;
    std::vector<float> key(kv_heads * head_dim), value(kv_heads * head_dim);
    for (Index t = 0; t < tokens; ++t) {
        if (engine.length == capacity) {
            // 2. When the cache is full, for each layer: views of the engine's memory.
            const auto keys = KVView<Eigen::half>::token_major(engine.keys.data(), kv_heads, engine.length, head_dim);
            const auto values =
                KVView<Eigen::half>::token_major(engine.values.data(), kv_heads, engine.length, head_dim);
            const Index length = compressor.compress(keys, values, {.sinks = sinks, .recent = recent});
            // 3. The new length is also the position of the next token; entry i is at position i.
            engine.length = length;
            ++compressions;
            plain_compressor.compress(KVView<float>::token_major(plain_keys.data(), kv_heads, capacity, head_dim),
                                      KVView<float>::token_major(plain_values.data(), kv_heads, capacity, head_dim),
                                      {.sinks = sinks, .recent = recent});
        }
        for (std::size_t i = 0; i < key.size(); ++i) {
            const double phase = static_cast<double>(i), time = static_cast<double>(t);
            key[i] = static_cast<float>(std::sin(0.01 * time + phase) + 0.1 * std::sin(2 * time + phase));
            value[i] = static_cast<float>(std::cos(0.03 * time + phase));
        }
        std::copy(key.begin(), key.end(), plain_keys.begin() + engine.length * kv_heads * head_dim);
        std::copy(value.begin(), value.end(), plain_values.begin() + engine.length * kv_heads * head_dim);
        engine.decode(key.data(), value.data());
    }

    // Rotated at its new position, each plain key has to be the engine's.
    rope.rotate(KVView<float>::token_major(plain_keys.data(), kv_heads, engine.length, head_dim));
    float largest = 0;
    float deviation = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(engine.length * kv_heads * head_dim); ++i) {
        largest = std::max(largest, std::abs(plain_keys[i]));
        deviation = std::max(deviation, std::abs(plain_keys[i] - static_cast<float>(engine.keys[i])));
    }
    std::cout << tokens << " tokens are " << engine.length << " entries after " << compressions
              << " compressions in the engine's own memory\n"
              << "deviation from the same before RoPE in 32 bits: " << deviation / largest << " of the largest key\n";
    return compressions == 7 && deviation < 2e-3F * largest ? 0 : 1;
}
