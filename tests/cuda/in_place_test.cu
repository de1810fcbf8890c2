// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda/in_place_cases.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/rope_options.hpp"
#include "naive.hpp"

// What the host's tests of the in-place call do not say of a device; they run there too, as cuda_host_test.
namespace freqkv::cuda::in_place_test {
namespace {

TYPED_TEST_SUITE(DeviceInPlaceTest, ElementTypes, ElementNames);

struct SweptPositions {
    const char* name;
    bool given;
    Index (*of)(Index);
};
const SweptPositions swept_positions[]{
    {"not given", false, [](Index t) { return t; }},
    {"with gaps", true, [](Index t) { return 3 * t + t / 5; }},
    {"far away", true, [](Index t) { return 1000000 + 17 * t; }},
    {"in no order", true, [](Index t) { return t * 37 % 101; }},
    {"negative", true, [](Index t) { return 2 * t - 500; }},
};

TYPED_TEST(DeviceInPlaceTest, IsTheDefinitionForAllRotationsPositionsAndSchedules) {
    using T = TypeParam;
    struct Dims {
        Index key, rotated;
    };
    const InPlaceOptions options{.sinks = 4, .recent = 9};
    for (const Place place : {Place::strided, Place::pages_by_token, Place::pages_by_head}) {
        for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
            // all, half, an odd number of pairs, none, and a head_dim that is odd
            for (const Dims dims : {Dims{16, 16}, Dims{16, 8}, Dims{12, 6}, Dims{16, 0}, Dims{7, 4}}) {
                for (const auto& positions : swept_positions) {
                    SCOPED_TRACE(name_of(place) + (pairing == RopePairing::adjacent ? ", adjacent, " : ", split, ") +
                                 std::to_string(dims.rotated) + " of " + std::to_string(dims.key) +
                                 " dimensions rotated, positions " + positions.name);
                    const Shape shape{.tokens = 75, .key_dim = dims.key, .value_dim = dims.key};
                    const RopeOptions rope{
                        .head_dim = dims.key, .rotated_dims = dims.rotated, .base = 5000, .pairing = pairing};
                    std::vector<Index> table = from_zero(shape.tokens);
                    for (Index& position : table) position = positions.of(position);
                    const auto check = [&](const auto& policy) {
                        expect_the_definition<T>(shape, place, policy, rope, options, table, positions.given);
                    };
                    {
                        SCOPED_TRACE("one span");
                        ASSERT_NO_FATAL_FAILURE(check(LowPass<>(0.5)));
                    }
                    {
                        SCOPED_TRACE("two spans");
                        ASSERT_NO_FATAL_FAILURE(check(TwoSpans{}));
                    }
                    {
                        SCOPED_TRACE("three spans");
                        ASSERT_NO_FATAL_FAILURE(check(ThreeSpans{}));
                    }
                    {
                        SCOPED_TRACE("a local window");
                        ASSERT_NO_FATAL_FAILURE(check(LocalWindow(0.6)));
                    }
                    {
                        SCOPED_TRACE("the latest of two spans");
                        ASSERT_NO_FATAL_FAILURE(check(LatestOfTwoSpans{}));
                    }
                    SCOPED_TRACE("the latest of three spans");
                    ASSERT_NO_FATAL_FAILURE(check(LatestOfThreeSpans{}));
                }
            }
        }
    }
}

TYPED_TEST(DeviceInPlaceTest, FrequencyFactorsAndLinearScaling) {
    using T = TypeParam;
    const Shape shape{.tokens = 60};
    std::vector<Index> positions = from_zero(shape.tokens);
    for (Index& position : positions) position = 3 * position + 100;
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        RopeOptions rope{.head_dim = 16, .rotated_dims = 12, .base = 500000, .pairing = pairing, .linear_scaling = 4};
        for (int i = 0; i < 6; ++i) rope.frequency_factors.push_back(0.25 + i * i);
        expect_the_definition<T>(shape, Place::strided, LowPass<>(0.25), rope, {.sinks = 0, .recent = 5}, positions,
                                 true);
    }
    // A theta of more than a turn for each position.
    const RopeOptions fast{.head_dim = 16, .base = 10, .frequency_factors = std::vector<double>(8, 0.01)};
    expect_the_definition<T>(shape, Place::strided, LowPass<>(0.5), fast, {}, positions, true);
}

TYPED_TEST(DeviceInPlaceTest, KeysBeforeRope) {
    using T = TypeParam;
    const Shape shape{.heads = 3, .tokens = 37, .key_dim = 5, .value_dim = 128};
    for (const Place place : {Place::strided, Place::pages_by_token, Place::pages_by_head}) {
        SCOPED_TRACE(name_of(place));
        expect_the_definition<T>(shape, place, LowPass<>(0.3), std::nullopt, {.sinks = 2, .recent = 4},
                                 from_zero(shape.tokens), false);
    }
}

// More entries than a block moves at a time close up by many places and by one.
TYPED_TEST(DeviceInPlaceTest, LongRecentPartsCloseUp) {
    using T = TypeParam;
    const Shape shape{.tokens = 700};
    const RopeOptions rope{.head_dim = 16, .pairing = RopePairing::half_split};
    std::vector<Index> positions = from_zero(shape.tokens);
    for (Index& position : positions) position += 2000;
    for (const Place place : {Place::strided, Place::pages_by_token}) {
        for (const bool give_positions : {true, false}) {
            const std::vector<Index> at = give_positions ? positions : from_zero(shape.tokens);
            const InPlaceOptions options{.sinks = 4, .recent = 600};
            expect_the_definition<T>(shape, place, LowPass<>(0.5), rope, options, at, give_positions);
            expect_the_definition<T>(shape, place, CountingSchedule{}, rope, options, at, give_positions);
            expect_the_definition<T>(shape, place, CountingSchedule{}, rope, {.sinks = 600, .recent = 3}, at,
                                     give_positions);
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// To the last bit.

TYPED_TEST(DeviceInPlaceTest, PagesGiveTheBitsOfStrides) {
    using T = TypeParam;
    const RopeOptions rope{.head_dim = 16, .pairing = RopePairing::half_split};
    std::vector<Index> positions = from_zero(150);
    for (Index& position : positions) position = 2 * position + 30;
    const DeviceArray<Index> table(positions);
    const auto check = [&](const auto& schedule) {
        InPlaceCompressor<T, std::remove_cvref_t<decltype(schedule)>> compressor(schedule, Rope(rope));
        const InPlaceOptions options{.sinks = 4, .recent = 20};
        Lists<T> strided({{.tokens = 150}}, Place::strided);
        strided.fill({positions}, rotary_of(rope), 12);
        auto views = strided.template as<KVView<T>>();
        views.front().positions = table.data();
        const Index length =
            compressor.compress(std::span<const ForeignList<KVView<T>>>(views), options).front().length;
        strided.download();
        for (const Place place : {Place::pages_by_token, Place::pages_by_head}) {
            for (const Index page_tokens : {1, 16, 32, 64, 256}) {
                SCOPED_TRACE(name_of(place) + " of " + std::to_string(page_tokens));
                Lists<T> paged({{.tokens = 150}}, place, page_tokens);
                paged.fill({positions}, rotary_of(rope), 12);
                auto pages = paged.template as<PagedKVView<T>>();
                pages.front().positions = table.data();
                ASSERT_EQ(
                    compressor.compress(std::span<const ForeignList<PagedKVView<T>>>(pages), options).front().length,
                    length);
                paged.download();
                EXPECT_TRUE(paged[0].keys.bits(0, length) == strided[0].keys.bits(0, length)) << "keys";
                EXPECT_TRUE(paged[0].values.bits(0, length) == strided[0].values.bits(0, length)) << "values";
            }
        }
    };
    check(LowPass<>(0.5));
    check(TwoSpans{});
    check(ThreeSpans{});
}

// Sinks at their places and a recent part that is stored at where it will be keep their bits; another sink turns.
TYPED_TEST(DeviceInPlaceTest, EntriesThatNeedNoTurnKeepTheirBits) {
    using T = TypeParam;
    const RopeOptions rope{.head_dim = 16, .rotated_dims = 8};
    const Index left = 4 + 15 + 6;
    std::vector<Index> positions = from_zero(40);
    for (Index t = 34; t < 40; ++t) positions[static_cast<std::size_t>(t)] = t - (40 - left);
    positions[1] = 500;
    const DeviceArray<Index> table(positions);
    for (const Place place : {Place::strided, Place::pages_by_token, Place::pages_by_head}) {
        SCOPED_TRACE(name_of(place));
        Lists<T> lists({{.tokens = 40}}, place);
        Lists<T> before({{.tokens = 40}}, place);
        lists.fill({positions}, rotary_of(rope), 3);
        before.fill({positions}, rotary_of(rope), 3);
        InPlaceCompressor<T> compressor(LowPass<>(0.5), Rope(rope));
        with_views<T>(place, [&](auto view) {
            auto views = lists.template as<decltype(view)>();
            views.front().positions = table.data();
            const InPlaceOptions options{.sinks = 4, .recent = 6};
            ASSERT_EQ(compressor.compress(std::span<const ForeignList<decltype(view)>>(views), options).front().length,
                      left);
        });
        lists.download();
        EXPECT_TRUE(lists[0].values.bits(0, 4) == before[0].values.bits(0, 4));
        EXPECT_TRUE(lists[0].values.bits(left - 6, left) == before[0].values.bits(34, 40));
        EXPECT_TRUE(lists[0].keys.bits(0, 1) == before[0].keys.bits(0, 1));
        EXPECT_TRUE(lists[0].keys.bits(2, 4) == before[0].keys.bits(2, 4));
        EXPECT_TRUE(lists[0].keys.bits(left - 6, left) == before[0].keys.bits(34, 40));
        EXPECT_FALSE(lists[0].keys.bits(1, 2) == before[0].keys.bits(1, 2));
    }
}

TYPED_TEST(DeviceInPlaceTest, AGraphGivesTheSameBits) {
    using T = TypeParam;
    const RopeOptions rope{.head_dim = 16};
    const std::vector<Shape> shapes{{.tokens = 75}, {.tokens = 40}};
    const InPlaceOptions options{.sinks = 4, .recent = 6};
    Lists<T> expected(shapes, Place::pages_by_token);
    Lists<T> lists(shapes, Place::pages_by_token);
    const auto fill = [&](Lists<T>& which, std::uint64_t seed) {
        which.fill({from_zero(75), from_zero(40)}, rotary_of(rope), seed);
    };
    InPlaceCompressor<T, ThreeSpans> compressor(ThreeSpans{}, Rope(rope));
    for (const Shape& shape : shapes) compressor.make_plans(shape.tokens, options);
    const auto views = lists.template as<PagedKVView<T>>();
    const auto expected_views = expected.template as<PagedKVView<T>>();
    const Stream stream;
    const Graph graph(
        stream, [&] { compressor.compress(std::span<const ForeignList<PagedKVView<T>>>(views), options, stream); });
    for (const std::uint64_t seed : {1, 2}) {
        fill(lists, seed);
        fill(expected, seed);
        graph.launch(stream);
        lists.download(stream);
        const std::span<const InPlaceResult> results =
            compressor.compress(std::span<const ForeignList<PagedKVView<T>>>(expected_views), options);
        expected.download();
        for (std::size_t l = 0; l < lists.size(); ++l) {
            EXPECT_TRUE(lists[l].keys.bits(0, results[l].length) == expected[l].keys.bits(0, results[l].length));
            EXPECT_TRUE(lists[l].values.bits(0, results[l].length) == expected[l].values.bits(0, results[l].length));
        }
    }
}

// ---------------------------------------------------------------------------------------------------
// Many lists in one call.

TYPED_TEST(DeviceInPlaceTest, SequencesOfAnyLengthGiveTheBitsOfCallsOfTheirOwn) {
    using T = TypeParam;
    const RopeOptions rope{.head_dim = 16, .pairing = RopePairing::half_split};
    const naive::Rotary rotary = rotary_of(rope);
    const std::vector<Shape> shapes{{.tokens = 40},
                                    {.heads = 5, .tokens = 130},
                                    {.tokens = 16, .value_dim = 3},
                                    {.tokens = 101},  // spans of 31
                                    {.heads = 1, .tokens = 77},
                                    {.tokens = 700, .value_dim = 80}};
    const InPlaceOptions options{.sinks = 3, .recent = 5};
    std::vector<std::vector<Index>> positions;
    std::deque<DeviceArray<Index>> tables;
    for (const Shape& shape : shapes) {
        positions.push_back(from_zero(shape.tokens));
        for (Index& position : positions.back()) position = position * (1 + static_cast<Index>(positions.size()));
        tables.emplace_back(positions.back());
    }
    for (const Place place : {Place::strided, Place::pages_by_token, Place::pages_by_head}) {
        SCOPED_TRACE(name_of(place));
        Lists<T> together(shapes, place);
        Lists<T> apart(shapes, place);
        together.fill(positions, rotary, 21);
        apart.fill(positions, rotary, 21);
        InPlaceCompressor<T, TwoSpans> compressor(TwoSpans{}, Rope(rope));
        with_views<T>(place, [&](auto view) {
            using View = decltype(view);
            const auto given_positions = [&](std::vector<ForeignList<View>> views) {
                for (std::size_t l = 0; l < views.size(); ++l) {
                    if (l != 2) views[l].positions = tables[l].data();
                }
                return views;
            };
            const auto views = given_positions(together.template as<View>());
            const std::span<const InPlaceResult> all =
                compressor.compress(std::span<const ForeignList<View>>(views), options);
            const std::vector<InPlaceResult> results(all.begin(), all.end());
            ASSERT_EQ(results.size(), shapes.size());
            const auto own = given_positions(apart.template as<View>());
            for (std::size_t l = 0; l < own.size(); ++l) {
                InPlaceCompressor<T, TwoSpans> fresh(TwoSpans{}, Rope(rope));
                EXPECT_EQ(fresh.compress(std::span(&own[l], 1), options).front(), results[l]);
            }
            together.download();
            apart.download();
            for (std::size_t l = 0; l < results.size(); ++l) {
                SCOPED_TRACE("list " + std::to_string(l));
                const Index length = results[l].length;
                EXPECT_TRUE(together[l].keys.bits(0, length) == apart[l].keys.bits(0, length)) << "keys";
                EXPECT_TRUE(together[l].values.bits(0, length) == apart[l].values.bits(0, length)) << "values";
            }
        });
    }
}

TYPED_TEST(DeviceInPlaceTest, MoreListsThanTheParametersOfOneLaunch) {
    using T = TypeParam;
    const RopeOptions rope{.head_dim = 16};
    constexpr int most =
        std::max(detail::Batch<detail::ResampleTask<T>>::most_tasks, detail::Batch<detail::MoveTask<T>>::most_tasks);
    const std::vector<Shape> shapes(most + 3, {.heads = 1, .tokens = 20, .value_dim = 4});
    const std::vector<std::vector<Index>> positions(shapes.size(), from_zero(20));
    const InPlaceOptions options{.sinks = 2, .recent = 4};
    Lists<T> together(shapes, Place::pages_by_token);
    Lists<T> apart(shapes, Place::pages_by_token);
    together.fill(positions, rotary_of(rope), 22);
    apart.fill(positions, rotary_of(rope), 22);
    InPlaceCompressor<T> compressor(LowPass<>(0.5), Rope(rope));
    const auto views = together.template as<PagedKVView<T>>();
    const auto own = apart.template as<PagedKVView<T>>();
    EXPECT_EQ(compressor.compress(std::span<const ForeignList<PagedKVView<T>>>(views), options).size(), shapes.size());
    for (const ForeignList<PagedKVView<T>>& list : own) {
        EXPECT_EQ(compressor.compress(list.keys, list.values, options).length, 13);
    }
    together.download();
    apart.download();
    for (std::size_t l = 0; l < shapes.size(); ++l) {
        EXPECT_TRUE(together[l].keys.bits(0, 13) == apart[l].keys.bits(0, 13)) << "list " << l;
        EXPECT_TRUE(together[l].values.bits(0, 13) == apart[l].values.bits(0, 13)) << "list " << l;
    }
}

TYPED_TEST(DeviceInPlaceTest, NoListsAreNothingToDo) {
    InPlaceCompressor<TypeParam> compressor;
    EXPECT_TRUE(compressor.compress(std::span<const ForeignList<KVView<TypeParam>>>()).empty());
    EXPECT_TRUE(compressor.compress(std::span<const ForeignList<PagedKVView<TypeParam>>>()).empty());
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

}  // namespace
}  // namespace freqkv::cuda::in_place_test
