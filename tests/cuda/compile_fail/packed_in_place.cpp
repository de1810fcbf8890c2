// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/packed.hpp"

// Packed entries are for the library's own cache.
template class freqkv::cuda::InPlaceCompressor<freqkv::Packed<8>>;
