// SPDX-License-Identifier: MIT
#include "freqkv/block_view.hpp"
#include "freqkv/in_place.hpp"

// Quantised rows under a compressor of other elements.
freqkv::Index compress(const freqkv::BlockView<freqkv::ggml::Q8_0>& keys,
                       const freqkv::BlockView<freqkv::ggml::Q8_0>& values) {
    return freqkv::InPlaceCompressor<double>().compress(keys, values);
}
