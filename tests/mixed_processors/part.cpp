// SPDX-License-Identifier: MIT
#include <vector>

#include "freqkv/freqkv.hpp"

// Compiled for several processors, under several names: attention over a cache that compresses twice, and a sum of what
// comes out.
double PART();

double PART() {
    using namespace freqkv;
    const Index heads = 2;
    const Index tokens = 100;
    const Index dim = 24;
    const Rope<float> rope({.head_dim = dim}, 64);
    SinkedKVCache<Half, LowPass<>> cache({.kv_heads = heads, .key_dim = dim, .capacity = 64}, rope);
    ChunkedAttention<float> attention;
    std::vector<float> x(static_cast<std::size_t>(heads * tokens * dim));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1009) / 1009 - 0.5F;
    std::vector<float> out(x.size());
    const KVView<const float> view(x.data(), heads, tokens, dim);
    attention.forward(view, view, view, cache, KVView<float>(out.data(), heads, tokens, dim));
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(i % 17);
    return sum;
}
