// SPDX-License-Identifier: MIT
#include "freqkv/in_place.hpp"

// Blocks are no elements.
freqkv::InPlaceCompressor<freqkv::ggml::Q8_0> compressor;
