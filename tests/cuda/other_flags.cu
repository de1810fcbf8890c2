// SPDX-License-Identifier: MIT
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/frequency_compressor.cuh"

// Is compiled only: with the 16-bit types' conversions switched off, and as relocatable device code.
namespace freqkv::cuda {

void attend(ChunkedAttention<__half>& attention, SinkedKVCache<__nv_bfloat16>& cache, const KVView<__half>& x,
            std::span<const SequenceTokens> parts) {
    attention.forward(x, x, x, cache, x, parts);
}

void compress(const FrequencyCompressor& compressor, const KVView<__half>& in, const KVView<__half>& out) {
    compressor.forward(in, out);
}

}  // namespace freqkv::cuda
