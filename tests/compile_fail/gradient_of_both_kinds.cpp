// SPDX-License-Identifier: MIT
#include "freqkv/adjoint/chunked_attention.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/norms.hpp"

// Gradients through a policy that keeps some entries and transforms the others.
using Policy = freqkv::ExactAndLowPass<freqkv::LongValues>;
freqkv::Index bytes_of(const freqkv::DifferentiableAttention<float, Policy>& attention) { return attention.bytes(); }
