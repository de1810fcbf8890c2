// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/detail/attention/tile_attention.hpp"
