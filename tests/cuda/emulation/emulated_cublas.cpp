// SPDX-License-Identifier: MIT
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>

#include "emulated_runtime.hpp"

// As much of cuBLAS as the reference Llama calls: products of a transposed matrix and one that is not, sums in double,
// results in float. Everything else is refused.
namespace {

struct Handle {
    cudaStream_t stream = nullptr;
    void* workspace = nullptr;
};
Handle* of(cublasHandle_t handle) { return reinterpret_cast<Handle*>(handle); }

template <class T>
void multiply(const T* a, int lda, const T* b, int ldb, float* c, int ldc, int m, int n, int k, float beta) {
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < m; ++i) {
            double sum = 0;
            for (int l = 0; l < k; ++l) {
                sum += static_cast<double>(static_cast<float>(a[static_cast<std::size_t>(i) * lda + l])) *
                       static_cast<double>(static_cast<float>(b[static_cast<std::size_t>(j) * ldb + l]));
            }
            float& result = c[static_cast<std::size_t>(j) * ldc + i];
            result =
                static_cast<float>(beta == 0 ? sum : sum + static_cast<double>(beta) * static_cast<double>(result));
        }
    }
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    *handle = reinterpret_cast<cublasHandle_t>(new Handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    delete of(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    *of(handle) = {stream, nullptr};  // takes the workspace back
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
    cudaPointerAttributes attributes{};
    cudaPointerGetAttributes(&attributes, workspace);
    if (attributes.type != cudaMemoryTypeDevice || bytes == 0) return CUBLAS_STATUS_INVALID_VALUE;
    of(handle)->workspace = workspace;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t /*handle*/, cublasMath_t mode) {
    return (mode & CUBLAS_TF32_TENSOR_OP_MATH) == CUBLAS_TF32_TENSOR_OP_MATH ? CUBLAS_STATUS_NOT_SUPPORTED
                                                                             : CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "the emulation refuses it";
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void* alpha, const void* a, cudaDataType atype, int lda, const void* b,
                            cudaDataType btype, int ldb, const void* beta, void* c, cudaDataType ctype, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    const float added = *static_cast<const float*>(beta);
    if (transa != CUBLAS_OP_T || transb != CUBLAS_OP_N || atype != btype || ctype != CUDA_R_32F ||
        compute != CUBLAS_COMPUTE_32F || algorithm != CUBLAS_GEMM_DEFAULT || *static_cast<const float*>(alpha) != 1) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (m <= 0 || n <= 0 || k <= 0 || lda < k || ldb < k || ldc < m) return CUBLAS_STATUS_INVALID_VALUE;
    // It would allocate one while the stream is captured.
    if (of(handle)->workspace == nullptr) return CUBLAS_STATUS_ALLOC_FAILED;
    const auto work = [=] {
        float* const result = static_cast<float*>(c);
        const auto run = [&](auto type) {
            using T = decltype(type);
            multiply(static_cast<const T*>(a), lda, static_cast<const T*>(b), ldb, result, ldc, m, n, k, added);
        };
        if (atype == CUDA_R_16F) return run(__half{});
        if (atype == CUDA_R_16BF) return run(__nv_bfloat16{});
        run(float{});
    };
    if (atype != CUDA_R_32F && atype != CUDA_R_16F && atype != CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
    const EmulatedLaunch launch{dim3(1), 1, 0};
    return emulated_launch(launch, of(handle)->stream, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                            : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
