// SPDX-License-Identifier: MIT
#include "freqkv/cuda/frequency_compressor.cuh"

void compress(const freqkv::cuda::FrequencyCompressor& compressor, freqkv::KVView<double> view) {
    compressor.forward(view, view);
}
