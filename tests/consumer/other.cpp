// SPDX-License-Identifier: MIT
#include "consumer.hpp"

#include <vector>

freqkv::Index entries_after(freqkv::Index tokens) {
    freqkv::CacheOptions options;
    options.kv_heads = 2;
    options.key_dim = 8;
    options.capacity = 16;
    freqkv::RopeOptions rope_options;
    rope_options.head_dim = options.key_dim;
    const freqkv::Rope<float> rope(rope_options, options.capacity);
    freqkv::SinkedKVCache<float, freqkv::LowPass<Backend>> cache(options, rope);

    const std::vector<float> memory(static_cast<std::size_t>(options.kv_heads * tokens * options.key_dim), 1.0F);
    const freqkv::KVView<const float> rows(memory.data(), options.kv_heads, tokens, options.key_dim);
    cache.append(rows, rows);
    return cache.size();
}
