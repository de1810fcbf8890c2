// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>

#include <cstdint>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/matrix_block.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/stored_element.hpp"

// A MatrixBlock on a device of compute capability 8.0 or above; on others it must not run.
namespace freqkv::cuda::detail {

template <class T>
class DeviceMatrixBlock {
public:
    static constexpr bool is_half = std::is_same_v<T, __half> || std::is_same_v<T, Half>;
    static_assert(is_half || std::is_same_v<T, __nv_bfloat16>);

    struct Thread {
        int index;
        __device__ __forceinline__ int lane() const { return index % 32; }
        __device__ __forceinline__ int warp() const { return index / 32; }
    };

    template <class X>
    struct Registers {
        X own;
        __device__ __forceinline__ X& operator()(const Thread& /*thread*/) { return own; }
        __device__ __forceinline__ const X& operator()(const Thread& /*thread*/) const { return own; }
    };

    template <class F>
    __device__ __forceinline__ void each(const F& f) const {
        f(Thread{static_cast<int>(threadIdx.x)});
    }

    __device__ __forceinline__ void barrier() const { __syncthreads(); }

    __device__ __forceinline__ void store(const Thread& /*thread*/, int element, const T& x) const {
        reinterpret_cast<T*>(chunks())[element] = x;
    }
    __device__ __forceinline__ void store(const Thread& /*thread*/, int chunk, const Elements<T, 8>& eight) const {
        reinterpret_cast<Elements<T, 8>*>(chunks())[chunk] = eight;
    }

    __device__ __forceinline__ void copy(const Thread& /*thread*/, int chunk, const T* from, bool inside) const {
        __pipeline_memcpy_async(chunks() + chunk, from, 16, inside ? 0 : 16);
    }
    __device__ __forceinline__ void wait() const {
        __pipeline_commit();
        __pipeline_wait_prior(0);
    }

    template <class F>
    __device__ __forceinline__ void load(Registers<Fragments>& to, const F& chunk_of) const {
#if __CUDA_ARCH__ >= 800
        std::uint32_t(&w)[4] = to.own.words;
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                     : "r"(address(chunk_of))
                     : "memory");
#else
        __trap();
#endif
    }

    template <class F>
    __device__ __forceinline__ void load_transposed(Registers<Fragments>& to, const F& chunk_of) const {
#if __CUDA_ARCH__ >= 800
        std::uint32_t(&w)[4] = to.own.words;
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                     : "r"(address(chunk_of))
                     : "memory");
#else
        __trap();
#endif
    }

    template <int I>
    __device__ __forceinline__ void multiply(Registers<Sums>& sums, const Registers<Fragments>& a,
                                             const Registers<Fragments>& b) const {
#if __CUDA_ARCH__ >= 800
        float(&c)[4] = sums.own.values;
        const std::uint32_t(&x)[4] = a.own.words;
        const std::uint32_t(&y)[4] = b.own.words;
        if constexpr (is_half) {
            asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * I]), "r"(y[2 * I + 1]));
        } else {
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * I]), "r"(y[2 * I + 1]));
        }
#else
        __trap();
#endif
    }

    template <int RowTiles>
    __device__ __forceinline__ void quad_max(Registers<RowValues<RowTiles>>& x) const {
        combine(x, [](float a, float b) FREQKV_INLINE_LAMBDA { return fmaxf(a, b); });
    }
    template <int RowTiles>
    __device__ __forceinline__ void quad_sum(Registers<RowValues<RowTiles>>& x) const {
        combine(x, [](float a, float b) FREQKV_INLINE_LAMBDA { return a + b; });
    }

    __device__ __forceinline__ static float exp2(float x) {
        float y;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
    }

private:
    static __device__ __forceinline__ float4* chunks() {
        extern __shared__ float4 freqkv_shared_points[];
        return freqkv_shared_points;
    }

    // This thread's part of the addresses of four matrices.
    template <class F>
    static __device__ __forceinline__ std::uint32_t address(const F& chunk_of) {
        const int thread = static_cast<int>(threadIdx.x);
        const auto begin = static_cast<std::uint32_t>(__cvta_generic_to_shared(chunks()));
        return begin + 16 * static_cast<std::uint32_t>(chunk_of(thread % 32, thread / 32));
    }

    template <int RowTiles, class F>
    static __device__ __forceinline__ void combine(Registers<RowValues<RowTiles>>& x, const F& f) {
        freqkv::detail::unrolled<2 * RowTiles>([&](auto r) FREQKV_INLINE_LAMBDA {
            float& value = x.own.values[r];
            value = f(value, __shfl_xor_sync(~0U, value, 1));
            value = f(value, __shfl_xor_sync(~0U, value, 2));
        });
    }
};

}  // namespace freqkv::cuda::detail
