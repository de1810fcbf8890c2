// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"

void append(freqkv::cuda::SinkedKVCache<float>& cache, freqkv::KVView<const int> k) { cache.append(k, k, {}); }
