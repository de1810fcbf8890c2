// SPDX-License-Identifier: MIT
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

// Tests on a device. Without one there is nothing to test, and that is said.
int main(int count, char** arguments) {
    testing::InitGoogleMock(&count, arguments);
    if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
        std::printf("skipped: there is no CUDA device (%s)\n", cudaGetErrorString(status));
        return 0;
    }
    return RUN_ALL_TESTS();
}
