// SPDX-License-Identifier: MIT
#include "freqkv/in_place.hpp"
#include "freqkv/policy/heavy_hitters.hpp"

// A foreign cache under a policy that goes by attention.
freqkv::InPlaceCompressor<float, freqkv::HeavyHitters> compressor;
