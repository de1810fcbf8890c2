// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/policy/schedule.hpp"
