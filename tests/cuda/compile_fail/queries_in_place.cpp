// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/policy/window_attention.hpp"

void compress(freqkv::cuda::InPlaceCompressor<float, freqkv::Tova>& compressor, const freqkv::KVView<float>& view) {
    compressor.compress(view, view);
}
