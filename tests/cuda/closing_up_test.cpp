// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/transform/closing_up.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/resample_cases.hpp"
#include "cuda/serial_block.hpp"
#include "freqkv/cuda/detail/device/check_views.hpp"
#include "freqkv/cuda/detail/transform/move_rows.hpp"
#include "naive.hpp"

namespace freqkv::cuda::resample_test {
namespace {

using detail::Columns;
using detail::FloatPair;
using testing::ElementsAre;

TEST(CudaClosingUp, GoesInAscendingOrder) {
    using detail::Stretch;
    EXPECT_THAT(detail::closing_up({{4, 8, 4}}, 12), ElementsAre(Stretch{0, 0, 4, false}, Stretch{4, 4, 4, true}));
    EXPECT_THAT(detail::closing_up({{0, 8, 3}, {8, 4, 2}, {14, 2, 1}}, 20),
                ElementsAre(Stretch{0, 0, 3, true}, Stretch{8, 3, 2, true}, Stretch{12, 5, 2, false},
                            Stretch{14, 7, 1, true}, Stretch{16, 8, 4, false}));
}

TEST(CudaClosingUp, MovesAndTurnsRows) {
    const Index n = 50;
    const Index from = 20;
    const Index count = 30;
    for (const Index to : {0, 13, 19, 20}) {
        for (const RopeCase& rope : rope_cases) {
            for (const bool pairs : {false, true}) {
                SCOPED_TRACE("to " + std::to_string(to) + ", " + std::to_string(rope.rotated_dims) + " of " +
                             std::to_string(rope.dims) + " dimensions" + (pairs ? ", two columns a call" : ""));
                const RopeOptions options{
                    .head_dim = rope.dims, .rotated_dims = rope.rotated_dims, .pairing = rope.pairing};
                const std::vector<std::uint64_t> turns = detail::rope_frequencies_in_turns(rope_frequencies(options));
                const naive::Rotary rotary{static_cast<std::size_t>(rope.rotated_dims), options.base,
                                           rope.pairing == RopePairing::adjacent};
                std::vector<float> cache = random_values(n * rope.dims, 11);
                naive::Rows want = rows_of(cache, 0, n, rope.dims);
                const naive::Rows before = want;
                std::vector<Index> positions;
                for (Index i = 0; i < count; ++i) {
                    positions.push_back(i % 3 == 0 ? to + i : from + 2 * i);
                    want[static_cast<std::size_t>(to + i)] =
                        naive::rotated(before[static_cast<std::size_t>(from + i)], to + i - positions.back(), rotary);
                }
                detail::MoveTask<float> task;
                task.rows =
                    detail::rows_of(one_head<float>(cache, n, rope.dims),
                                    Columns{static_cast<int>(rope.dims), static_cast<int>(rope.rotated_dims / 2),
                                            rope.pairing == RopePairing::half_split});
                task.heads = 1;
                task.from = static_cast<int>(from);
                task.to = static_cast<int>(to);
                task.count = static_cast<int>(count);
                if (rope.rotated_dims > 0) task.positions = {turns.data(), positions.data(), 0};
                const int slots = 7;  // fewer than rows, and no divisor
                const int packs = 8;  // all columns
                const SerialBlock block(CallOrder::shuffled);
                const detail::SharedLayout layout{3, false};
                if (pairs) {
                    detail::move_rows<FloatPair>(task, 0, 0, slots, block,
                                                 CheckedMemory<FloatPair>(slots, layout, block));
                } else {
                    detail::move_rows<float>(task, 0, 0, slots, block, CheckedMemory<float>(slots, layout, block));
                }
                ASSERT_LE((rope.dims + 1) / 2, packs);
                ASSERT_NO_FATAL_FAILURE(expect_rows(cache, want, rope.dims, tolerance));
                for (Index i = 0; i < count; i += 3) {
                    const naive::Rows moved = rows_of(cache, to + i, 1, rope.dims);
                    ASSERT_EQ(moved[0], before[static_cast<std::size_t>(from + i)])
                        << "moved, but not turned: no bit changes";
                }
            }
        }
    }
}

}  // namespace
}  // namespace freqkv::cuda::resample_test
