// SPDX-License-Identifier: MIT
#pragma once

// Everything but the FFTW backend, which is under another licence: include "freqkv/dct/fftw.hpp" for it.
#include "freqkv/chunked_attention.hpp"
#include "freqkv/config.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/error.hpp"
#include "freqkv/executor.hpp"
#include "freqkv/fast_capacity.hpp"
#include "freqkv/frequency_compressor.hpp"
#include "freqkv/in_place.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "freqkv/version.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"
