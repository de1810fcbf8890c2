// SPDX-License-Identifier: MIT
#pragma once

#include "llama/program/options.hpp"
