// SPDX-License-Identifier: MIT
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/packed.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/window_attention.hpp"

template class freqkv::cuda::SinkedKVCache<__half>;
template class freqkv::cuda::SinkedKVCache<float, freqkv::LocalWindow>;
template class freqkv::cuda::SinkedKVCache<__nv_bfloat16, freqkv::Full>;
template class freqkv::cuda::SinkedKVCache<float, freqkv::KeyDiff>;
template class freqkv::cuda::SinkedKVCache<float, freqkv::SnapKV<>>;
template class freqkv::cuda::SinkedKVCache<float, freqkv::ExactAndLowPass<freqkv::ShortKeys>>;
template class freqkv::cuda::SinkedKVCache<freqkv::Packed<4>>;
template class freqkv::cuda::SinkedKVCache<freqkv::Packed<8>, freqkv::Full>;
template class freqkv::cuda::SinkedKVCache<freqkv::Packed<2>, freqkv::SnapKV<>>;
