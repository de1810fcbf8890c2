// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "freqkv/config.hpp"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"

namespace llama::device {

/// Host memory that a device copies to without a detour.
class PinnedFloats {
public:
    PinnedFloats() = default;
    explicit PinnedFloats(freqkv::Index size) : size_(size) {
        const freqkv::Index bytes = freqkv::checked_product("pinned memory in bytes", size, sizeof(float));
        freqkv::cuda::check("cudaMallocHost",
                            cudaMallocHost(reinterpret_cast<void**>(&data_), static_cast<std::size_t>(bytes)));
    }
    PinnedFloats(const PinnedFloats&) = delete;
    PinnedFloats& operator=(const PinnedFloats&) = delete;
    PinnedFloats& operator=(PinnedFloats&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~PinnedFloats() {
        if (data_ != nullptr) (void)cudaFreeHost(data_);
    }

    float* data() const { return data_; }
    freqkv::Index size() const { return size_; }

private:
    float* data_ = nullptr;
    freqkv::Index size_ = 0;
};

}  // namespace llama::device
