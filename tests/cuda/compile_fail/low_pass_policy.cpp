// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/low_pass.hpp"

// A device has transforms of its own: what it takes is the schedule alone.
template class freqkv::cuda::SinkedKVCache<float, freqkv::LowPass<>>;
