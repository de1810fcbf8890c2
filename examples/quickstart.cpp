// SPDX-License-Identifier: MIT
// One attention layer reads 1000 tokens through a cache of 256 entries: the four names of the library.
#include <cmath>
#include <freqkv/freqkv.hpp>
#include <iostream>
#include <unsupported/Eigen/CXX11/Tensor>

using namespace freqkv;
using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;  // [heads, tokens, head_dim]; any strides will do

// Stands in for a layer's projections: mostly slow from token to token, as keys and values are.
Tensor projection(Index heads, Index tokens, Index dim) {
    Tensor x(heads, tokens, dim);
    for (Index h = 0; h < heads; ++h)
        for (Index t = 0; t < tokens; ++t)
            for (Index d = 0; d < dim; ++d) {
                const double phase = static_cast<double>(d), time = static_cast<double>(t);
                x(h, t, d) = static_cast<float>(std::sin(0.02 * time + phase) + 0.2 * std::sin(2.5 * time + phase));
            }
    return x;
}

int main() {
    const Index tokens = 1000, query_heads = 8, kv_heads = 2, dim = 64;
    const Tensor q = projection(query_heads, tokens, dim), k = projection(kv_heads, tokens, dim);
    Tensor out(query_heads, tokens, dim);

    // The first 4 and the latest 32 of 256 entries are kept as they are when the rest is compressed.
    SinkedKVCache<float, LowPass<>> cache(
        {.kv_heads = kv_heads, .query_heads = query_heads, .key_dim = dim, .capacity = 256, .sinks = 4, .recent = 32},
        Rope<float>({.head_dim = dim}, 256), LowPass<>(0.5));
    ChunkedAttention<float>().forward(q, k, /* values: */ k, cache, out);
    std::cout << cache.tokens_seen() << " tokens are " << cache.size() << " entries after " << cache.compressions()
              << " compressions, in " << cache.memory().entries() / 1024 << " KiB instead of " << 8 * k.size() / 1024
              << " KiB\n";

    // What a compression does, by itself: 1000 keys of each head become 500.
    Workspace scratch;
    Tensor half(kv_heads, 500, dim);
    Energy energy[2];
    FrequencyCompressor<float, dct::Simd>(tokens, 500).forward<float>(k, half, scratch, energy);
    std::cout << "1000 keys to 500: " << 100 * energy[0].relative() << " % of the energy is lost\n";

    // And the transform under it: of four equal numbers the first coefficient says all.
    float x[4] = {3, 3, 3, 3}, y[4];
    DctPlan<float, dct::Simd>(4).forward({x, 4, 1}, {y, 4, 1}, scratch);
    std::cout << "3 3 3 3 becomes " << y[0] << " and, in all, " << std::abs(y[1]) + std::abs(y[2]) + std::abs(y[3])
              << '\n';
}
