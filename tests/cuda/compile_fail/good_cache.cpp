// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"

template class freqkv::cuda::SinkedKVCache<__half>;
template class freqkv::cuda::SinkedKVCache<float, freqkv::LocalWindow>;
template class freqkv::cuda::SinkedKVCache<__nv_bfloat16, freqkv::Full>;
