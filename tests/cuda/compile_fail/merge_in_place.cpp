// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/policy/merge.hpp"

template class freqkv::cuda::InPlaceCompressor<float, freqkv::Merge>;
