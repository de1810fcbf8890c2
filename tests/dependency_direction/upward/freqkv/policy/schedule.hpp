// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/config.hpp"
