// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/heavy_hitters.hpp"

template class freqkv::cuda::SinkedKVCache<float, freqkv::HeavyHitters>;
