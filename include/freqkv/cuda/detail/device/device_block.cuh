// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/energy.hpp"

// A ThreadBlock and its shared memory on a device.
namespace freqkv::cuda::detail {

/// The threads of the block that runs.
class DeviceBlock {
public:
    template <class F>
    __device__ __forceinline__ void each(int count, const F& f) const {
        for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) f(i);
        __syncthreads();
    }

    /// The number of threads must be a multiple of 2^log_packs.
    template <class F>
    __device__ __forceinline__ void each(int slots, int log_packs, const F& f) const {
        const int step = static_cast<int>(blockDim.x) >> log_packs;
        for (Place at = place_of(static_cast<int>(threadIdx.x), log_packs); at.slot < slots; at.slot += step) f(at);
        __syncthreads();
    }

    template <class Read, class Write>
    __device__ __forceinline__ void transfer(int slots, int log_packs, const Read& read, const Write& write) const {
        constexpr int in_flight = 8;
        const int step = static_cast<int>(blockDim.x) >> log_packs;
        Place at = place_of(static_cast<int>(threadIdx.x), log_packs);
        for (; at.slot + (in_flight - 1) * step < slots; at.slot += in_flight * step) {
            decltype(read(at)) values[in_flight];
#pragma unroll
            for (int j = 0; j < in_flight; ++j) values[j] = read(Place{at.slot + j * step, at.pack});
#pragma unroll
            for (int j = 0; j < in_flight; ++j) write(Place{at.slot + j * step, at.pack}, values[j]);
        }
        for (; at.slot < slots; at.slot += step) write(at, read(at));
        __syncthreads();
    }

    /// How many f(i) are true, in every thread.
    template <class F>
    __device__ __forceinline__ int count(int n, const F& f) const {
        int count = 0;
        for (int first = 0; first < n; first += static_cast<int>(blockDim.x)) {
            const int i = first + static_cast<int>(threadIdx.x);
            count += __syncthreads_count(i < n && f(i) ? 1 : 0);
        }
        return count;
    }

    /// The sum of all f(i) in thread 0; in an order that depends on the number of threads alone.
    template <class F>
    __device__ __forceinline__ Energy sum(int count, const F& f) const {
        __shared__ double parts[2][32];
        static_assert(sizeof(parts) <= static_shared_bytes);
        Energy sum;
        for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) add(sum, f(i));
        for (int distance = 16; distance > 0; distance /= 2) {
            add(sum,
                Energy{__shfl_down_sync(~0U, sum.total, distance), __shfl_down_sync(~0U, sum.discarded, distance)});
        }
        if (threadIdx.x % 32 == 0) {
            parts[0][threadIdx.x / 32] = sum.total;
            parts[1][threadIdx.x / 32] = sum.discarded;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            for (unsigned int warp = 1; warp < blockDim.x / 32; ++warp) add(sum, {parts[0][warp], parts[1][warp]});
        }
        return sum;
    }

    /// f() by thread 0.
    template <class F>
    __device__ __forceinline__ void once(const F& f) const {
        if (threadIdx.x == 0) f();
    }

private:
    __device__ static void add(Energy& sum, const Energy& other) {
        sum.total += other.total;
        sum.discarded += other.discarded;
    }
};

/// Points in the block's dynamic shared memory, whose size is that of the launch.
template <class V>
class DeviceMemory {
public:
    SharedLayout layout;

    __device__ explicit DeviceMemory(const SharedLayout& layout_) : layout(layout_) {}

    __device__ __forceinline__ Complex<V> load(int index) const {
        const Access point = points()[index];
        if constexpr (columns_of<V> == 2) {
            return {{{point.x, point.y}}, {{point.z, point.w}}};
        } else {
            return {point.x, point.y};
        }
    }

    __device__ __forceinline__ void store(int index, const Complex<V>& value) const {
        if constexpr (columns_of<V> == 2) {
            points()[index] = make_float4(value.re[0], value.re[1], value.im[0], value.im[1]);
        } else {
            points()[index] = make_float2(value.re, value.im);
        }
    }

private:
    using Access = std::conditional_t<columns_of<V> == 2, float4, float2>;
    static_assert(sizeof(Access) == sizeof(Complex<V>));

    // Named here and not kept as a pointer, so that the compiler knows which memory it is.
    static __device__ __forceinline__ Access* points() {
        extern __shared__ float4 freqkv_shared_points[];
        return reinterpret_cast<Access*>(freqkv_shared_points);
    }
};

/// Floats in the block's dynamic shared memory.
class DeviceFloats {
public:
    __device__ __forceinline__ float load(int index) const { return floats()[index]; }

    template <int N>
    __device__ __forceinline__ Elements<float, N> load(int index) const {
        return load_elements<N>(floats() + index);
    }

    __device__ __forceinline__ void store(int index, float value) const { floats()[index] = value; }

private:
    static __device__ __forceinline__ float* floats() {
        extern __shared__ float4 freqkv_shared_points[];
        return reinterpret_cast<float*>(freqkv_shared_points);
    }
};

}  // namespace freqkv::cuda::detail
