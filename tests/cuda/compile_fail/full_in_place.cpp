// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/policy/full.hpp"

template class freqkv::cuda::InPlaceCompressor<float, freqkv::Full>;
