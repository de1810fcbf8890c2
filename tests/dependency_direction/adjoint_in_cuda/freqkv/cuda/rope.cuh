// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/adjoint/chunked_attention.hpp"
