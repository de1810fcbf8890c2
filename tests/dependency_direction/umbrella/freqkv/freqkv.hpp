// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/version.hpp"

namespace freqkv {}
