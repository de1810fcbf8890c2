// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"

// A device has no double.
template class freqkv::cuda::SinkedKVCache<double>;
