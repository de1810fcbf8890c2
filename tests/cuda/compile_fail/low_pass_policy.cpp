// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/whole_span.hpp"

// One policy for host and device, also where both include it.
template class freqkv::cuda::SinkedKVCache<float, freqkv::LowPass<>>;
template class freqkv::cuda::InPlaceCompressor<float, freqkv::LowPass<>>;
static_assert(freqkv::TransformCodec<freqkv::FrequencyCodec<>, float>);

// A policy of one's own.
struct Policy {
    freqkv::WholeSpan schedule;
    freqkv::FrequencyCodec<> codec;
};
template class freqkv::cuda::SinkedKVCache<float, Policy>;
