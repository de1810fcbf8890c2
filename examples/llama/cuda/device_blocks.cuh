// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "llama/model/config.hpp"
#include "llama/model/weights.hpp"

// Launches of what blocks.hpp has, compiled once for all models. Pointers are to device memory; `type` is what y is
// stored as (f32, f16 or bf16).
namespace llama::device {

/// Throws CudaError if the program has no code for the current device.
void check_code();

/// x [count, dim] = rows of a table [vocabulary, dim].
void embed(const void* table, WeightType type, const Token* tokens, Index count, Index dim, float* x,
           cudaStream_t stream);

/// y = rms_norm(x) of every token, both [tokens, dim], with weight [dim].
void rms_norm(const float* x, const float* weight, double epsilon, Index tokens, Index dim, WeightType type, void* y,
              cudaStream_t stream);

/// y [tokens, hidden] = silu(gate) * up, gate_up [tokens, 2, hidden].
void swiglu(const float* gate_up, Index tokens, Index hidden, WeightType type, void* y, cudaStream_t stream);

/// y = x, `count` elements.
void convert(const float* x, Index count, WeightType type, void* y, cudaStream_t stream);

/// Every row of y [tokens, dim] = row [dim].
void repeat_row(const float* row, Index tokens, Index dim, float* y, cudaStream_t stream);

}  // namespace llama::device
