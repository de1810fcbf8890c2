// SPDX-License-Identifier: MIT
#include "freqkv/adjoint/chunked_attention.hpp"
#include "freqkv/policy/merge.hpp"

// Gradients through a policy that merges entries.
using Attention = freqkv::DifferentiableAttention<float, freqkv::Merge>;
freqkv::Index bytes_of(const Attention& attention) { return attention.bytes(); }
