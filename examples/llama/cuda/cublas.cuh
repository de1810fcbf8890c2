// SPDX-License-Identifier: MIT
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <stdexcept>
#include <string>

#include "freqkv/cuda/device_array.cuh"
#include "llama/cuda/device_weights.cuh"
#include "llama/model/weights.hpp"

namespace llama::device {

/// Throws std::runtime_error, with the call's name, unless `status` is success.
inline void check_cublas(const char* call, cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    throw std::runtime_error(std::string(call) + " failed: " + cublasGetStatusString(status));
}

/// cuBLAS on one stream. It works in memory given to it here, so that its calls may be captured in a graph, and sums in
/// float, without TF32 and without partial sums of 16 bits.
class Cublas {
public:
    explicit Cublas(cudaStream_t stream) : workspace_(workspace_bytes) {
        check_cublas("cublasCreate", cublasCreate(&handle_));
        try {
            check_cublas("cublasSetStream", cublasSetStream(handle_, stream));
            check_cublas("cublasSetWorkspace", cublasSetWorkspace(handle_, workspace_.data(), workspace_bytes));
            check_cublas("cublasSetMathMode",
                         cublasSetMathMode(
                             handle_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                                CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)));
        } catch (...) {
            (void)cublasDestroy(handle_);
            throw;
        }
    }
    Cublas(const Cublas&) = delete;
    Cublas& operator=(const Cublas&) = delete;
    ~Cublas() { (void)cublasDestroy(handle_); }

    /// y [tokens, rows] = x [tokens, columns] times the transpose of the matrix [rows, columns], x in its type; added
    /// to what is in y if `adds`.
    void multiply(const Matrix& matrix, const void* x, Index tokens, float* y, bool adds = false) const {
        const float one = 1;
        const float beta = adds ? 1 : 0;
        const cudaDataType type = cuda_type(matrix.type);
        const auto rows = static_cast<int>(matrix.rows);
        const auto columns = static_cast<int>(matrix.columns);
        // Column-major: the transpose of y is the matrix, which it sees transposed, times the transpose of x.
        check_cublas("cublasGemmEx", cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, rows, static_cast<int>(tokens),
                                                  columns, &one, matrix.data.data(), type, columns, x, type, columns,
                                                  &beta, y, CUDA_R_32F, rows, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    }

private:
    static constexpr Index workspace_bytes = Index{1} << 25;  // what NVIDIA recommends for Hopper

    static cudaDataType cuda_type(WeightType type) {
        if (type == WeightType::f16) return CUDA_R_16F;
        if (type == WeightType::bf16) return CUDA_R_16BF;
        return CUDA_R_32F;
    }

    freqkv::cuda::DeviceArray<std::byte> workspace_;
    cublasHandle_t handle_ = nullptr;
};

}  // namespace llama::device
