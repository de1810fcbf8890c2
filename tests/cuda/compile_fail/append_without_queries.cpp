// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/window_attention.hpp"

void append(freqkv::cuda::SinkedKVCache<float, freqkv::Tova>& cache, freqkv::KVView<const float> k) {
    cache.append(k, k, {});
}
