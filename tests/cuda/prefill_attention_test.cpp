// SPDX-License-Identifier: MIT
#include "freqkv/cuda/detail/attention/prefill_attention.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/attention_case.hpp"
#include "cuda/serial_matrix_block.hpp"
#include "freqkv/rope_options.hpp"

// Attention on tensor cores as the kernel does it, on the host.
namespace freqkv::cuda {
namespace {

using detail::AttentionTask;
using detail::PrefillPlace;
using detail::PrefillShape;

template <int Dim, class Q, class T>
void attend_in_blocks(const AttentionTask<Q, T>& task, const std::vector<PrefillPlace>& places) {
    using Shape = PrefillShape<Dim>;
    static_assert(Shape::threads == SerialMatrixBlock<T>::threads);
    for (const PrefillPlace& place : places) {
        const int tiles = (place.count * task.group + Shape::rows - 1) / Shape::rows;
        for (int h = 0; h < task.kv_heads; ++h) {
            for (int tile = 0; tile <= tiles; ++tile) {  // one too many, as for the shorter places of a launch
                SerialMatrixBlock<T> block(Shape::chunks);
                detail::attend_rows<Shape>(task, place, h, tile, block);
            }
        }
    }
}

template <class T>
class CudaPrefill : public testing::Test {};
using StoredInHalf = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(CudaPrefill, StoredInHalf);

// Queries and weights are rounded to the cache's type.
template <class T>
constexpr double tolerance = std::is_same_v<T, Eigen::half> ? 2e-3 : 1.6e-2;

template <int Dim, class Q, class T>
void expect_softmax_over_what_came_before(const AttentionShape& shape, const std::vector<PrefillPlace>& places,
                                          const std::vector<std::int32_t>& sizes, int capacity) {
    SCOPED_TRACE(std::to_string(shape.kv_heads) + " KV heads, " + std::to_string(shape.group) + " queries each, " +
                 std::to_string(Dim) + " dimensions");
    int tokens = 0;
    for (const PrefillPlace& place : places) tokens = std::max(tokens, place.first + place.count);
    AttentionCase<Q, T> attention(shape, capacity, tokens, sizes);
    for (const PrefillPlace& place : places) {
        attention.spoil_behind(place.list, sizes[static_cast<std::size_t>(place.list)] + place.behind + place.count);
    }
    AttentionTask<Q, T> task;
    attention.describe(task);
    attend_in_blocks<Dim>(task, places);
    for (const PrefillPlace& place : places) {
        // The first and last tokens, and those at the borders of tiles of rows and entries.
        for (int t = 0; t < place.count; t += t < 2 || t > place.count - 3 ? 1 : 13) {
            for (int h = 0; h < attention.query_heads(); ++h) {
                ASSERT_THAT(attention.result(place.first + t, h),
                            testing::Pointwise(testing::DoubleNear(tolerance<T>),
                                               attention.expected(place.first + t, h, place.list, place.behind + t)))
                    << "token " << t << " of list " << place.list << ", head " << h;
            }
        }
    }
}

TYPED_TEST(CudaPrefill, IsTheSoftmaxOverWhatCameBefore) {
    using T = TypeParam;
    // Lists that are empty, end within a tile and at its border; the second one gets a token before these.
    const std::vector<PrefillPlace> places{{2, 0, 0, 70}, {0, 70, 0, 64}, {1, 135, 1, 33}};
    const std::vector<std::int32_t> sizes{0, 100, 58};
    expect_softmax_over_what_came_before<64, float, T>({2, 1, 64, 64, RopePairing::adjacent, 64}, places, sizes, 140);
    expect_softmax_over_what_came_before<64, T, T>({1, 4, 64, 64, RopePairing::half_split, 64}, places, sizes, 140);
    expect_softmax_over_what_came_before<64, float, T>({1, 3, 64, 64, RopePairing::half_split, 24}, places, sizes, 140);
    expect_softmax_over_what_came_before<128, float, T>({1, 2, 128, 128, RopePairing::half_split, 128}, places, sizes,
                                                        140);
    expect_softmax_over_what_came_before<128, T, T>({1, 1, 128, 128, RopePairing::adjacent, 0}, places, sizes, 140);
}

TYPED_TEST(CudaPrefill, ReadsNothingBehindTheCapacity) {
    using T = TypeParam;
    // As if a graph were launched once too often: no room for all of the tokens. What they find is of no use, but what
    // is read is of the list.
    const AttentionShape shape{1, 1, 64, 64, RopePairing::adjacent, 64};
    AttentionCase<float, T> attention(shape, 80, 64, {50});
    AttentionTask<float, T> task;
    attention.describe(task);
    attend_in_blocks<64>(task, {{0, 0, 0, 64}});
    EXPECT_THAT(attention.result(29, 0),
                testing::Pointwise(testing::DoubleNear(tolerance<T>), attention.expected(29, 0, 0, 29)));
    for (const double x : attention.result(63, 0)) EXPECT_LE(std::abs(x), 1);
}

}  // namespace
}  // namespace freqkv::cuda
