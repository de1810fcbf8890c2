// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/low_pass.hpp"

struct Backend;

// A device has transforms of its own.
template class freqkv::cuda::SinkedKVCache<float, freqkv::LowPass<Backend>>;
