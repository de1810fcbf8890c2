// SPDX-License-Identifier: MIT
#include "llama/cuda/device_blocks.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/device_elements.cuh"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "llama/cuda/blocks.hpp"

namespace llama::device {

namespace {

using freqkv::cuda::detail::DeviceBlock;
using freqkv::cuda::detail::DeviceFloats;
using freqkv::cuda::detail::launch_kernel;

// Grids: x is a token, y some of its elements where a block does not take all of them.

template <class W>
__global__ void __launch_bounds__(threads)
    embed_kernel(const W* const table, const Token* const tokens, float* const x, const int dim) {
    copy_row(table + Index{tokens[blockIdx.x]} * dim, x + Index{blockIdx.x} * dim, dim, DeviceBlock());
}

__global__ void __launch_bounds__(threads) repeat_row_kernel(const float* const row, float* const y, const int dim) {
    copy_row(row, y + Index{blockIdx.x} * dim, dim, DeviceBlock());
}

template <class W>
__global__ void __launch_bounds__(threads)
    rms_norm_kernel(const float* const x, const float* const weight, W* const y, const int dim, const float epsilon) {
    const Index begin = Index{blockIdx.x} * dim;
    rms_norm(x + begin, weight, y + begin, dim, epsilon, DeviceBlock(), DeviceFloats());
}

template <class W>
__global__ void __launch_bounds__(threads) swiglu_kernel(const float* const gate_up, W* const y, const int hidden) {
    const float* const gate = gate_up + 2 * Index{blockIdx.x} * hidden;
    const int first = static_cast<int>(blockIdx.y) * elements_per_block;
    const int count = hidden - first < elements_per_block ? hidden - first : elements_per_block;
    swiglu(gate, gate + hidden, y + Index{blockIdx.x} * hidden, first, count, DeviceBlock());
}

// Grid: x is some of all elements.
template <class W>
__global__ void __launch_bounds__(threads) convert_kernel(const float* const x, W* const y, const Index count) {
    const Index first = Index{blockIdx.x} * elements_per_block;
    const Index left = count - first;
    convert(x + first, y + first, static_cast<int>(left < elements_per_block ? left : elements_per_block),
            DeviceBlock());
}

// f(std::type_identity<W>()) for the type that a matrix on the device has.
template <class F>
void with_type(WeightType type, const F& f) {
    if (type == WeightType::f16) return f(std::type_identity<__half>{});
    if (type == WeightType::bf16) return f(std::type_identity<__nv_bfloat16>{});
    f(std::type_identity<float>{});
}

dim3 grid(Index x, Index y = 1) { return {static_cast<unsigned int>(x), static_cast<unsigned int>(y), 1}; }

Index pieces(Index count) { return (count + elements_per_block - 1) / elements_per_block; }

}  // namespace

void check_code() { freqkv::cuda::detail::load_kernel(&repeat_row_kernel); }

void embed(const void* table, WeightType type, const Token* tokens, Index count, Index dim, float* x,
           cudaStream_t stream) {
    with_type(type, [&]<class W>(std::type_identity<W>) {
        launch_kernel("cudaLaunchKernel of embed_kernel", &embed_kernel<W>, grid(count), threads, 0, stream,
                      static_cast<const W*>(table), tokens, x, static_cast<int>(dim));
    });
}

void rms_norm(const float* x, const float* weight, double epsilon, Index tokens, Index dim, WeightType type, void* y,
              cudaStream_t stream) {
    with_type(type, [&]<class W>(std::type_identity<W>) {
        launch_kernel("cudaLaunchKernel of rms_norm_kernel", &rms_norm_kernel<W>, grid(tokens), threads,
                      threads * Index{sizeof(float)}, stream, x, weight, static_cast<W*>(y), static_cast<int>(dim),
                      static_cast<float>(epsilon));
    });
}

void swiglu(const float* gate_up, Index tokens, Index hidden, WeightType type, void* y, cudaStream_t stream) {
    with_type(type, [&]<class W>(std::type_identity<W>) {
        launch_kernel("cudaLaunchKernel of swiglu_kernel", &swiglu_kernel<W>, grid(tokens, pieces(hidden)), threads, 0,
                      stream, gate_up, static_cast<W*>(y), static_cast<int>(hidden));
    });
}

void convert(const float* x, Index count, WeightType type, void* y, cudaStream_t stream) {
    with_type(type, [&]<class W>(std::type_identity<W>) {
        launch_kernel("cudaLaunchKernel of convert_kernel", &convert_kernel<W>, grid(pieces(count)), threads, 0, stream,
                      x, static_cast<W*>(y), count);
    });
}

void repeat_row(const float* row, Index tokens, Index dim, float* y, cudaStream_t stream) {
    launch_kernel("cudaLaunchKernel of repeat_row_kernel", &repeat_row_kernel, grid(tokens), threads, 0, stream, row, y,
                  static_cast<int>(dim));
}

}  // namespace llama::device
