// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <type_traits>

#include "cuda/serial_block.hpp"
#include "cuda/serial_matrix_block.hpp"
#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/attention/matrix_block.hpp"
#include "freqkv/cuda/detail/cache/policies.hpp"
#include "freqkv/cuda/detail/device/block.hpp"
#include "freqkv/cuda/detail/transform/closing_up.hpp"
#include "freqkv/detail/cache/list_counts.hpp"
#include "freqkv/detail/transform/prime_factors.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/whole_span.hpp"
#include "freqkv/stored_element.hpp"

// What kernels ask of a block and of a policy, and what host and device have in common.
namespace freqkv::cuda {
namespace {

using detail::Remains;
using detail::Stretch;
using freqkv::detail::ListCounts;
using testing::ElementsAre;

static_assert(detail::ThreadBlock<SerialBlock> && !detail::ThreadBlock<SerialMatrixBlock<Eigen::half>>);
static_assert(detail::SharedPoints<CheckedMemory<float>, float> && !detail::SharedPoints<SerialBlock, float>);
static_assert(!detail::SharedFloats<CheckedMemory<float>>);
static_assert(detail::MatrixBlock<SerialMatrixBlock<Eigen::half>, Eigen::half>);
static_assert(!detail::MatrixThread<int>);

struct OwnPolicy {
    WholeSpan schedule;
    FrequencyCodec<> codec;
};
struct WithAllocation {
    WholeSpan schedule;
    FrequencyCodec<> codec;
    int allocation = 0;
};
static_assert(detail::LowPassPolicy<LowPass<>> && detail::LowPassPolicy<OwnPolicy>);
static_assert(detail::LatestPolicy<LocalWindow> && !detail::LowPassPolicy<LocalWindow>);
static_assert(!detail::CompressingPolicy<WholeSpan>, "a schedule does not say what becomes of a span");
static_assert(!detail::CompressingPolicy<WithAllocation> && !detail::CompressingPolicy<Full>);

static_assert(!StoredElement<float>::has_row_scale);
static_assert(std::is_same_v<StoredElement<double>::Arithmetic, double>);
static_assert(std::is_same_v<StoredElement<Eigen::half>::Arithmetic, float>);

TEST(CudaClosingUp, LeavesTheLatestEntriesOfASpanWithWhatIsBehindIt) {
    EXPECT_THAT(detail::closing_up({{4, 8, 3}}, 20, Remains::latest_entries),
                ElementsAre(Stretch{0, 0, 4, false}, Stretch{9, 4, 11, false}));
    EXPECT_THAT(detail::closing_up({{0, 8, 3}, {8, 4, 2}}, 12, Remains::latest_entries),
                ElementsAre(Stretch{5, 0, 3, false}, Stretch{10, 3, 2, false}));
}

TEST(ListCounts, FollowTokensAndCompressions) {
    ListCounts counts;
    counts.append(10);
    counts.compress(6);
    counts.append(3);
    EXPECT_EQ(counts.size, 9);
    EXPECT_EQ(counts.tokens_seen, 13);
    EXPECT_EQ(counts.compressions, 1);
    counts.truncate(11);
    EXPECT_EQ(counts.size, 7);
    EXPECT_EQ(counts.tokens_seen, 11);
    for (const Index tokens : {Index{9}, Index{12}}) {
        EXPECT_THROW(counts.truncate(tokens), Error);
        EXPECT_EQ(counts.size, 7) << "without change";
    }
    counts.truncate(10);
    EXPECT_EQ(counts.size, 6);
}

TEST(PrimeFactors, AreThoseOfTheDefinition) {
    for (Index n = 1; n <= 2000; ++n) {
        Index rest = n;
        Index largest = 1;
        for (Index p = 2; p <= rest; ++p) {
            for (; rest % p == 0; rest /= p) largest = p;
        }
        ASSERT_EQ(freqkv::detail::has_no_prime_above_5(n), largest <= 5) << n;
    }
    EXPECT_EQ(freqkv::detail::convolution_length(1), 1);
    EXPECT_EQ(freqkv::detail::convolution_length(17), 36);
    EXPECT_EQ(freqkv::detail::convolution_length(16381), 32768);
}

}  // namespace
}  // namespace freqkv::cuda
