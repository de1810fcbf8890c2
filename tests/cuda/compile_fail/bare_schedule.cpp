// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/whole_span.hpp"

// A schedule says when and where, and not what becomes of a span.
template class freqkv::cuda::SinkedKVCache<float, freqkv::WholeSpan>;
