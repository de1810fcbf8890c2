// SPDX-License-Identifier: MIT
#include <cstdint>

#include "freqkv/in_place.hpp"

// Halves of an engine that holds them as integers: without a cast they would be converted as numbers.
freqkv::InPlaceCompressor<std::uint16_t> compressor;
