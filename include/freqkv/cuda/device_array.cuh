// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"

namespace freqkv::cuda {

/// Memory on the device that is current when it is made. Elements are left uninitialised.
template <class T>
class DeviceArray {
    static_assert(std::is_trivially_copyable_v<T>, "DeviceArray<T> holds plain values only");

public:
    DeviceArray() = default;

    /// Throws Error if the size in bytes does not fit, CudaError if there is no device or no memory.
    explicit DeviceArray(Index size) : size_(size) {
        const Index bytes = checked_product("device array size in bytes", size, sizeof(T));
        if (bytes > 0)
            check("cudaMalloc", cudaMalloc(reinterpret_cast<void**>(&data_), static_cast<std::size_t>(bytes)));
    }

    /// A copy of host memory; complete when the constructor returns.
    explicit DeviceArray(std::span<const T> values) : DeviceArray(static_cast<Index>(values.size())) {
        if (size_ == 0) return;
        check("cudaMemcpy", cudaMemcpy(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice));
        // It may return when the values are on their way.
        check("cudaStreamSynchronize", cudaStreamSynchronize(nullptr));
    }
    explicit DeviceArray(const std::vector<T>& values) : DeviceArray(std::span<const T>(values)) {}

    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    DeviceArray(DeviceArray&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    DeviceArray& operator=(DeviceArray&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    /// Waits for the device, as cudaFree() does, so kernels that use the memory may still be under way.
    ~DeviceArray() {
        if (data_ != nullptr && cudaFree(data_) != cudaSuccess) (void)cudaGetLastError();
    }

    T* data() const { return data_; }
    Index size() const { return size_; }

    /// Waits for the stream. A copy in host memory, after all that `stream` has been given before.
    std::vector<T> download(cudaStream_t stream = nullptr) const {
        std::vector<T> values(static_cast<std::size_t>(size_));
        check("cudaMemcpyAsync",
              cudaMemcpyAsync(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost, stream));
        check("cudaStreamSynchronize", cudaStreamSynchronize(stream));
        return values;
    }

private:
    T* data_ = nullptr;
    Index size_ = 0;
};

}  // namespace freqkv::cuda
