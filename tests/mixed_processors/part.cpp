// SPDX-License-Identifier: MIT
#include <vector>

#include "freqkv/freqkv.hpp"

namespace {

using namespace freqkv;

// Attention over a cache that compresses twice, and a sum of what comes out.
template <class P>
double sum_under(const P& policy) {
    const Index heads = 2;
    const Index tokens = 100;
    const Index dim = 24;
    const Rope<float> rope({.head_dim = dim}, 64);
    SinkedKVCache<Half, P> cache({.kv_heads = heads, .key_dim = dim, .capacity = 64}, rope, policy);
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

}  // namespace

// Compiled for several processors, under several names.
double PART();

double PART() { return sum_under(LowPass<>()) + sum_under(KeyDiff()) + sum_under(ExactAndLowPass<ResidualEnergy>()); }
