// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"

void compress(const freqkv::KVView<double>& keys, const freqkv::KVView<double>& values) {
    freqkv::cuda::compress_in_place<double>(keys, values);
}
