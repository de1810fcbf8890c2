// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/transform/launch_shape.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "freqkv/cuda/detail/device/batch.hpp"
#include "freqkv/cuda/detail/transform/move_rows.hpp"
#include "freqkv/cuda/detail/transform/resample.hpp"
#include "freqkv/cuda/detail/transform/transform_tables.hpp"

namespace freqkv::cuda::resample_test {
namespace {

using detail::ResampleTask;
using detail::TransformTables;

// What NVIDIA states for compute capability 9.0 and 8.0.
constexpr detail::DeviceLimits h100{232448, 233472};
constexpr detail::DeviceLimits a100{166912, 167936};

TEST(CudaLaunch, FitsTheDevice) {
    for (const detail::DeviceLimits& limits : {h100, a100}) {
        for (Index n = 2; n <= 8192; n += 1 + n / 50) {
            const TransformTables tables(n);
            for (const int columns : {1, 3, 40, 64}) {
                for (const int wanted : {0, 1, 2, 4, 8, 64}) {
                    const bool pairs = detail::carries_pairs(tables.slots(), tables.largest_radix(), columns, limits);
                    ASSERT_TRUE(!pairs || tables.largest_radix() <= detail::widest_pair_radix);
                    const detail::LaunchShape shape =
                        detail::launch_shape(tables.slots(), pairs, columns, limits, wanted);
                    ASSERT_LE(shape.shared_bytes + detail::static_shared_bytes, limits.shared_per_block) << n;
                    ASSERT_EQ(shape.shared_bytes, detail::shared_bytes(tables.slots(), shape.columns()));
                    ASSERT_GE(shape.threads, 32);
                    ASSERT_LE(shape.threads, detail::most_threads);
                    ASSERT_EQ(shape.threads % 32, 0) << "whole warps";
                    ASSERT_EQ(shape.threads % (1 << shape.log_packs), 0) << "a thread's places are of one pack";
                    ASSERT_LE(shape.columns(), std::max(wanted, 2 * columns)) << "no more columns than there are";
                }
            }
        }
        EXPECT_FALSE(detail::carries_pairs(TransformTables(8191).slots(), 16, 64, limits));
        EXPECT_EQ(detail::launch_shape(TransformTables(8191).slots(), false, 64, limits).columns(), 1)
            << "the longest convolution leaves room for one column";
    }
}

TEST(CudaLaunch, RefusesWhatDoesNotFit) {
    EXPECT_THAT(
        [] { detail::carries_pairs(32768, 16, 64, h100); },
        testing::ThrowsMessage<Error>("freqkv: length is too large for the device: 279040 bytes of shared memory, "
                                      "which may be at most 232448"));
    EXPECT_FALSE(detail::carries_pairs(16384, 16, 64, h100)) << "fits once";
}

TEST(CudaLaunch, HoldsManyTasks) {
    EXPECT_GE(detail::Batch<ResampleTask<float>>::most_tasks, 128) << "keys and values of 64 layers at once";
    EXPECT_LE(sizeof(detail::Batch<ResampleTask<float>>), 32764U);
    EXPECT_LE(sizeof(detail::Batch<detail::MoveTask<float>>), 32764U);
}

}  // namespace
}  // namespace freqkv::cuda::resample_test
