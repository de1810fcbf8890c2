// SPDX-License-Identifier: MIT
#pragma once

#include "freqkv/freqkv.hpp"
#if defined(WITH_FFTW)
#include "freqkv/dct/fftw.hpp"
using Backend = freqkv::dct::Fftw;
#else
using Backend = freqkv::dct::Direct;
#endif

// Entries that a small cache holds after `tokens` tokens.
freqkv::Index entries_after(freqkv::Index tokens);
