// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/device/entry_rows.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/energy.hpp"

// In place of the header of this name, for the host: kernels are functions, whose calls run one after another; shared
// memory is as large as the launch asked for and begins as not-a-numbers, so that what nobody wrote shows.
#undef __global__
#define __global__
#undef __launch_bounds__
#define __launch_bounds__(threads)
#undef __grid_constant__
#define __grid_constant__

namespace freqkv::cuda::detail {

inline thread_local uint3 blockIdx{};
inline thread_local dim3 gridDim;
inline thread_local std::unique_ptr<std::byte[]> emulated_shared_memory;
inline thread_local std::size_t emulated_shared_bytes = 0;

class DeviceBlock {
public:
    template <class F>
    void each(int count, const F& f) const {
        for (int i = 0; i < count; ++i) f(i);
    }

    template <class F>
    void each(int slots, int log_packs, const F& f) const {
        for (int i = 0; i < slots << log_packs; ++i) f(place_of(i, log_packs));
    }

    template <class Read, class Write>
    void transfer(int slots, int log_packs, const Read& read, const Write& write) const {
        for (int i = slots << log_packs; i-- > 0;) write(place_of(i, log_packs), read(place_of(i, log_packs)));
    }

    template <class F>
    int count(int n, const F& f) const {
        int count = 0;
        for (int i = 0; i < n; ++i) count += f(i) ? 1 : 0;
        return count;
    }

    template <class F>
    Energy sum(int count, const F& f) const {
        Energy sum;
        for (int i = 0; i < count; ++i) sum += f(i);
        return sum;
    }

    template <class F>
    void once(const F& f) const {
        f();
    }
};

template <class V>
class DeviceMemory {
public:
    SharedLayout layout;

    explicit DeviceMemory(const SharedLayout& layout_) : layout(layout_) {}

    Complex<V> load(int index) const { return points()[index]; }
    void store(int index, const Complex<V>& value) const { points()[index] = value; }

private:
    static Complex<V>* points() { return reinterpret_cast<Complex<V>*>(emulated_shared_memory.get()); }
};

class DeviceFloats {
public:
    float load(int index) const { return floats()[index]; }

    template <int N>
    Elements<float, N> load(int index) const {
        Elements<float, N> elements;
        for (int i = 0; i < N; ++i) elements.values[i] = floats()[index + i];
        return elements;
    }

    void store(int index, float value) const { floats()[index] = value; }

private:
    static float* floats() { return reinterpret_cast<float*>(emulated_shared_memory.get()); }
};

}  // namespace freqkv::cuda::detail

// Kernels of programs lie in other namespaces.
using freqkv::cuda::detail::blockIdx;
