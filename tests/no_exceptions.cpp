// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstdlib>

#include "freqkv/freqkv.hpp"

// Compiled with -fno-exceptions: everything instantiates, and an error ends the program with its message.
int main() {
    using namespace freqkv;
    float x[8] = {};
    float y[8];
    const KVView<float> view(x, 1, 1, 8);
    const Rope<float> rope({.head_dim = 8}, 64);
    SinkedKVCache<float, LowPass<>> cache({.kv_heads = 1, .key_dim = 8, .capacity = 64}, rope);
    ChunkedAttention<float>().forward(view, view, view, cache, KVView<float>(y, 1, 1, 8));
    std::signal(SIGABRT, [](int) { std::_Exit(0); });
    SinkedKVCache<float, LowPass<>> too_small({.kv_heads = 1, .key_dim = 8, .capacity = 5}, rope);
    return 1;
}
