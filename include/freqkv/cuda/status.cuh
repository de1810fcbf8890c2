// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "freqkv/error.hpp"

namespace freqkv::cuda {

/// A call of the CUDA runtime failed. what() names the call and the runtime's reason.
class CudaError : public std::runtime_error {
public:
    CudaError(const char* call, cudaError_t status)
        : std::runtime_error("freqkv: " + std::string(has_no_device(status) ? "no CUDA device can be used: " : "") +
                             call + " failed: " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")"),
          status_(status) {}

    cudaError_t status() const { return status_; }

private:
    // Where there is no device there may be no driver either, and then the runtime's own words are about versions.
    static bool has_no_device(cudaError_t status) {
        return status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver;
    }

    cudaError_t status_;
};

/// Throws CudaError, through FREQKV_THROW, unless `status` is success.
inline void check(const char* call, cudaError_t status) {
    if (status == cudaSuccess) return;
    (void)cudaGetLastError();  // an error that does not stick must not be found again by the next call
    FREQKV_THROW(CudaError(call, status));
    std::abort();  // a user's hook may return; the library cannot go on
}

}  // namespace freqkv::cuda
