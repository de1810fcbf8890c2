// SPDX-License-Identifier: MIT
#pragma once

#include <fftw3.h>
