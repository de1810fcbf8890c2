// SPDX-License-Identifier: MIT
#include "freqkv/cuda/in_place.cuh"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device_tests.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/energy.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/rope_options.hpp"
#include "kernels.cuh"
#include "naive.hpp"

// What the host's tests of the in-place call do not say of a device; they run there too, as cuda_host_in_place_test.
namespace freqkv::cuda {
namespace {

using testing::HasSubstr;

// Of what happens in float between reading and writing, angles included, relative to the largest element.
constexpr double tolerance = 2e-6;

// Spans with entries between them that stay, or none, at ratios from nothing to nearly all.
struct TwoSpans {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index third = (layout.entries - layout.sinks - layout.recent) / 3;
        return {{layout.sinks + 1, third, third / 2}, {layout.sinks + 3 + third, third, third - 1}};
    }
};
struct ThreeSpans {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index quarter = (layout.entries - layout.sinks - layout.recent) / 4;
        return {{layout.sinks, quarter, 1},
                {layout.sinks + quarter, quarter, quarter / 2},
                {layout.sinks + 2 * quarter + 5, quarter, quarter - 2}};
    }
};
// Drops as many entries as there have been compressions, plus one.
struct CountingSchedule {
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        const Index length = layout.entries - layout.sinks - layout.recent;
        return {{layout.sinks, length, length - 1 - compressions}};
    }
};

std::vector<Index> from_zero(Index tokens) {
    std::vector<Index> positions(static_cast<std::size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    return positions;
}

naive::Rotary rotary_of(const RopeOptions& options) {
    const Index rotated = options.rotated_dims == -1 ? options.head_dim : options.rotated_dims;
    return {static_cast<std::size_t>(rotated), options.base, options.pairing == RopePairing::adjacent,
            options.linear_scaling, options.frequency_factors};
}

// Schedules of a user's own with the codec of LocalWindow.
struct LatestOfTwoSpans {
    TwoSpans schedule;
    SelectLatest codec;
};
struct LatestOfThreeSpans {
    ThreeSpans schedule;
    SelectLatest codec;
};

// The spans of a list, and what becomes of each.
template <class P>
SpanList spans_of(const P& policy, const CacheLayout& layout) {
    if constexpr (Schedule<P>) {
        return policy.plan(layout, 0);
    } else {
        return policy.schedule.plan(layout, 0);
    }
}
using Compress = naive::Rows (*)(const naive::Rows&, std::size_t keep);
template <class P>
Compress compress_of() {
    if constexpr (Schedule<P>) {
        return naive::low_passed;
    } else {
        return naive::latest;
    }
}

// One head's entries afterwards, from those before: spans are un-rotated, compressed and rotated at their new indices;
// the others turn to theirs.
naive::Rows compressed(const naive::Rows& before, const SpanList& spans, Compress compress,
                       const std::vector<Index>& positions, const naive::Rotary& rotary) {
    naive::Rows after;
    std::size_t next = 0;
    const auto index = [&] { return static_cast<Index>(after.size()); };
    const auto stay = [&](std::size_t end) {
        for (; next < end; ++next) after.push_back(naive::rotated(before[next], index() - positions[next], rotary));
    };
    for (const Span& span : spans) {
        stay(static_cast<std::size_t>(span.begin));
        naive::Rows plain;
        for (; next < static_cast<std::size_t>(span.begin + span.length); ++next) {
            plain.push_back(naive::rotated(before[next], -positions[next], rotary));
        }
        for (const naive::Row& row : compress(plain, static_cast<std::size_t>(span.keep))) {
            after.push_back(naive::rotated(row, index(), rotary));
        }
    }
    stay(before.size());
    return after;
}

// Where lists lie: views with strides, or pages of a pool in no order, as engines lay out a page.
enum class Place { strided, pages_by_token, pages_by_head };

std::string name_of(Place place) {
    return place == Place::strided ? "strided" : place == Place::pages_by_token ? "pages by token" : "pages by head";
}

struct Shape {
    Index heads = 2;
    Index tokens = 0;
    Index key_dim = 16;
    Index value_dim = 12;
};

// Lists of one or more sequences and layers in one Memory. Those in pages take turns to take the pool's pages, which
// are shuffled.
template <class T>
class Lists {
public:
    struct List {
        Entries<T> keys, values;
    };

    Lists(const std::vector<Shape>& shapes, Place place, Index page_tokens = 16)
        : memory_(place == Place::strided ? strided_size(shapes) : pool_size(shapes, page_tokens)) {
        if (place == Place::strided) {
            Index begin = margin;
            for (const Shape& shape : shapes) {
                // [tokens, heads, {key, value}], and padding behind each token.
                const Index both = shape.key_dim + shape.value_dim;
                const Strides strides{both, shape.heads * both + 4, 1};
                lists_.push_back(
                    {Entries<T>(memory_, begin, shape.heads, shape.tokens, shape.key_dim, strides),
                     Entries<T>(memory_, begin + shape.key_dim, shape.heads, shape.tokens, shape.value_dim, strides)});
                begin += strided_size(shape);
            }
        } else {
            const Index page_size = largest_page(shapes, page_tokens);
            std::vector<std::int32_t> free(static_cast<std::size_t>((memory_.size() - 2 * margin) / page_size));
            std::iota(free.begin(), free.end(), 0);
            std::shuffle(free.begin(), free.end(), std::mt19937(5));
            const auto entries = [&](const Shape& shape, Index dim) {
                const Index pages = pages_of(shape, page_tokens) + 1;  // an empty one at the end
                const std::vector<std::int32_t> table(free.end() - pages, free.end());
                free.resize(free.size() - table.size());
                const Strides strides = place == Place::pages_by_token ? Strides{dim, shape.heads * dim, 1}
                                                                       : Strides{page_tokens * dim, dim, 1};
                return Entries<T>(memory_, margin, shape.heads, shape.tokens, dim, strides, table, page_tokens,
                                  page_size);
            };
            for (const Shape& shape : shapes) {
                Entries<T> keys = entries(shape, shape.key_dim);
                lists_.push_back({std::move(keys), entries(shape, shape.value_dim)});
            }
        }
    }
    Lists(const Lists&) = delete;
    Lists& operator=(const Lists&) = delete;

    // Random entries, keys rotated at positions[list][token]; the same for every T, place and page but for rounding.
    Lists& fill(const std::vector<std::vector<Index>>& positions, const naive::Rotary& rotary, std::uint64_t seed) {
        for (std::size_t l = 0; l < lists_.size(); ++l) {
            List& list = lists_[l];
            naive::Random next(seed + l);
            for (Index h = 0; h < list.keys.heads(); ++h) {
                for (Index t = 0; t < list.keys.tokens(); ++t) {
                    list.keys.set_row(h, t,
                                      naive::rotated(random_row(next, list.keys.dim(), t),
                                                     positions[l][static_cast<std::size_t>(t)], rotary));
                    list.values.set_row(h, t, random_row(next, list.values.dim(), t + 7));
                }
            }
        }
        memory_.upload();
        return *this;
    }

    void download(cudaStream_t stream = nullptr) {
        memory_.download(stream);
        memory_.expect_rest_untouched();
    }

    std::size_t size() const { return lists_.size(); }
    const List& operator[](std::size_t l) const { return lists_[l]; }

    template <class View>
    std::vector<ForeignList<View>> as() const {
        std::vector<ForeignList<View>> views;
        for (const List& list : lists_)
            views.push_back({list.keys.template as<View>(), list.values.template as<View>()});
        return views;
    }

private:
    static constexpr Index margin = 64;

    // A key or value: slow, as they are, and some noise.
    static naive::Row random_row(naive::Random& next, Index dim, Index token) {
        naive::Row row;
        for (Index d = 0; d < dim; ++d) {
            row.push_back(std::sin(0.05 * static_cast<double>(token * (d + 1))) + 0.3 * next());
        }
        return row;
    }

    static Index strided_size(const Shape& shape) {
        return (shape.tokens + 1) * (shape.heads * (shape.key_dim + shape.value_dim) + 4);
    }
    static Index strided_size(const std::vector<Shape>& shapes) {
        Index size = 2 * margin;
        for (const Shape& shape : shapes) size += strided_size(shape);
        return size;
    }

    static Index pages_of(const Shape& shape, Index page_tokens) {
        return (shape.tokens + page_tokens - 1) / page_tokens;
    }
    static Index largest_page(const std::vector<Shape>& shapes, Index page_tokens) {
        Index size = 0;
        for (const Shape& shape : shapes) {
            size = std::max(size, page_tokens * shape.heads * std::max(shape.key_dim, shape.value_dim));
        }
        return size;
    }
    static Index pool_size(const std::vector<Shape>& shapes, Index page_tokens) {
        Index pages = 3;  // of nobody
        for (const Shape& shape : shapes) pages += 2 * (pages_of(shape, page_tokens) + 1);
        return pages * largest_page(shapes, page_tokens) + 2 * margin;
    }

    Memory<T> memory_;
    std::vector<List> lists_;
};

// Calls f with the type of views that lists in this place have.
template <class T, class F>
auto with_views(Place place, const F& f) {
    return place == Place::strided ? f(KVView<T>()) : f(PagedKVView<T>());
}

template <class T>
void expect_head(const Entries<T>& entries, Index head, const naive::Rows& expected) {
    EXPECT_LT(largest_error<T>(entries.rows(head, static_cast<Index>(expected.size())), expected), tolerance)
        << "head " << head;
}

// Fills one list, compresses it, and compares with the formula.
template <class T, class P>
void expect_the_definition(const Shape& shape, Place place, const P& policy, const std::optional<RopeOptions>& rope,
                           const InPlaceOptions& options, const std::vector<Index>& positions, bool give_positions) {
    const naive::Rotary rotary = rope ? rotary_of(*rope) : naive::Rotary{};
    Lists<T> lists({shape}, place);
    lists.fill({positions}, rotary, 11);
    std::vector<naive::Rows> keys, values;
    for (Index h = 0; h < shape.heads; ++h) {
        keys.push_back(lists[0].keys.rows(h));
        values.push_back(lists[0].values.rows(h));
    }
    const SpanList spans = spans_of(policy, {shape.tokens, options.sinks, options.recent});
    Index length = shape.tokens;
    for (const Span& span : spans) length -= span.length - span.keep;

    InPlaceCompressor<T, P> compressor(policy, rope ? std::optional<Rope>(*rope) : std::nullopt);
    const DeviceArray<Index> table(give_positions ? positions : std::vector<Index>());
    with_views<T>(place, [&](auto view) {
        auto views = lists.template as<decltype(view)>();
        views.front().positions = table.data();
        const std::span<const InPlaceResult> results =
            compressor.compress(std::span<const ForeignList<decltype(view)>>(views), options);
        ASSERT_EQ(results.size(), 1U);
        ASSERT_EQ(results.front().length, length);
    });
    lists.download();
    for (Index h = 0; h < shape.heads; ++h) {
        const auto head = static_cast<std::size_t>(h);
        {
            SCOPED_TRACE("keys");
            expect_head(lists[0].keys, h, compressed(keys[head], spans, compress_of<P>(), positions, rotary));
        }
        SCOPED_TRACE("values");
        expect_head(lists[0].values, h, compressed(values[head], spans, compress_of<P>(), positions, naive::Rotary{}));
    }
}

template <class T>
class DeviceInPlaceTest : public testing::Test {};
TYPED_TEST_SUITE(DeviceInPlaceTest, ElementTypes, ElementNames);

// ---------------------------------------------------------------------------------------------------
// The definition.

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
                        ASSERT_NO_FATAL_FAILURE(check(WholeSpan{0.5}));
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
        expect_the_definition<T>(shape, Place::strided, WholeSpan{0.25}, rope, {.sinks = 0, .recent = 5}, positions,
                                 true);
    }
    // A theta of more than a turn for each position.
    const RopeOptions fast{.head_dim = 16, .base = 10, .frequency_factors = std::vector<double>(8, 0.01)};
    expect_the_definition<T>(shape, Place::strided, WholeSpan{0.5}, fast, {}, positions, true);
}

TYPED_TEST(DeviceInPlaceTest, KeysBeforeRope) {
    using T = TypeParam;
    const Shape shape{.heads = 3, .tokens = 37, .key_dim = 5, .value_dim = 128};
    for (const Place place : {Place::strided, Place::pages_by_token, Place::pages_by_head}) {
        SCOPED_TRACE(name_of(place));
        expect_the_definition<T>(shape, place, WholeSpan{0.3}, std::nullopt, {.sinks = 2, .recent = 4},
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
            expect_the_definition<T>(shape, place, WholeSpan{0.5}, rope, options, at, give_positions);
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
    check(WholeSpan{0.5});
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
        InPlaceCompressor<T> compressor(WholeSpan{0.5}, Rope(rope));
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
    for (const Shape& shape : shapes) compressor.prepare(shape.tokens, options);
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
    InPlaceCompressor<T> compressor(WholeSpan{0.5}, Rope(rope));
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

// ---------------------------------------------------------------------------------------------------
// What is reported.

TEST(DeviceInPlaceResults, CountFreedPages) {
    struct Case {
        Index tokens, page_tokens, keep, first_free_page, free_pages;
    };
    for (const Case& c : {
             Case{64, 16, 32, 2, 2},   // ends with a page
             Case{65, 16, 33, 3, 2},   // one entry into a page, before and after
             Case{65, 16, 17, 2, 3},   //
             Case{64, 64, 32, 1, 0},   // nothing becomes free
             Case{200, 16, 1, 1, 12},  // all but one
             Case{33, 32, 32, 1, 1},
         }) {
        SCOPED_TRACE(std::to_string(c.tokens) + " to " + std::to_string(c.keep) + ", pages of " +
                     std::to_string(c.page_tokens));
        struct Keep {
            Index keep;
            SpanList plan(const CacheLayout& layout, Index) const { return {{0, layout.entries, keep}}; }
        };
        Lists<float> lists({{.tokens = c.tokens}}, Place::pages_by_token, c.page_tokens);
        lists.fill({from_zero(c.tokens)}, {}, 1);
        InPlaceCompressor<float, Keep> compressor(Keep{c.keep});
        const PagedKVView<float> keys = lists[0].keys.paged();
        const PagedKVView<float> values = lists[0].values.paged();
        const InPlaceResult result = compressor.compress(keys, values, {.sinks = 0});
        EXPECT_EQ(result.length, c.keep);
        EXPECT_EQ(result.first_free_page, c.first_free_page);
        EXPECT_EQ(result.free_pages, c.free_pages);
        lists.download();
    }
    Lists<float> strided({{.tokens = 64}}, Place::strided);
    strided.fill({from_zero(64)}, {}, 1);
    EXPECT_EQ(compress_in_place<float>(strided[0].keys.strided(), strided[0].values.strided(), std::nullopt,
                                       {.sinks = 0}, WholeSpan{0.5}),
              (InPlaceResult{32, 0, 0}))
        << "views have no pages";
}

TEST(DeviceInPlaceResults, SchedulesKnowHowOftenEachListHasBeenCompressed) {
    Lists<float> lists({{.tokens = 30}, {.tokens = 30}, {.tokens = 25}}, Place::strided);
    lists.fill({from_zero(30), from_zero(30), from_zero(25)}, {}, 1);
    auto views = lists.as<KVView<float>>();
    views[1].compressions = 5;
    views[2].compressions = 2;
    InPlaceCompressor<float, CountingSchedule> compressor;
    EXPECT_THAT(compressor.compress(std::span<const ForeignList<KVView<float>>>(views), {.sinks = 2, .recent = 1}),
                testing::ElementsAre(InPlaceResult{29, 0, 0}, InPlaceResult{24, 0, 0}, InPlaceResult{22, 0, 0}));
    lists.download();
}

// Nothing is transformed: there is no length too large, no plan, and no energy.
TEST(DeviceInPlaceResults, UnderALocalWindowNeedNoTransform) {
    constexpr Index tokens = 20000;
    Lists<float> lists({{.heads = 1, .tokens = tokens, .key_dim = 2, .value_dim = 2}}, Place::pages_by_token);
    lists.fill({from_zero(tokens)}, {}, 3);
    const naive::Rows before = lists[0].values.rows(0);
    InPlaceCompressor<float, LocalWindow> compressor(LocalWindow(0.25));
    const InPlaceOptions options{.sinks = 4, .recent = 10};
    compressor.prepare(tokens, options);
    EXPECT_EQ(compressor.table_bytes(), 0);
    EnergyReport report;
    const InPlaceResult result =
        compressor.compress(lists[0].keys.paged(), lists[0].values.paged(), options, nullptr, &report);
    EXPECT_EQ(result, (InPlaceResult{4 + 4996 + 10, 314, 1250 - 314}));
    EXPECT_TRUE(report.read().empty());
    lists.download();
    naive::Rows after(before.begin(), before.begin() + 4);
    after.insert(after.end(), before.end() - 5006, before.end());
    EXPECT_EQ(lists[0].values.rows(0, result.length), after) << "values are moved as they are";
}

// For each list, span by span, the heads' keys before RoPE and then their values.
TYPED_TEST(DeviceInPlaceTest, EnergiesOfUnrotatedKeysAndOfValues) {
    using T = TypeParam;
    const RopeOptions rope{.head_dim = 16};
    const naive::Rotary rotary = rotary_of(rope);
    const std::vector<Shape> shapes{{.tokens = 75}, {.heads = 3, .tokens = 50, .value_dim = 7}};
    const std::vector<std::vector<Index>> positions{from_zero(75), from_zero(50)};
    const InPlaceOptions options{.sinks = 4, .recent = 9};
    Lists<T> lists(shapes, Place::pages_by_head);
    lists.fill(positions, rotary, 31);
    std::vector<Energy> expected;
    for (std::size_t l = 0; l < shapes.size(); ++l) {
        for (const Span& span : TwoSpans{}.plan({shapes[l].tokens, options.sinks, options.recent}, 0)) {
            for (const Entries<T>* entries : {&lists[l].keys, &lists[l].values}) {
                for (Index h = 0; h < shapes[l].heads; ++h) {
                    naive::Rows rows;
                    for (Index t = span.begin; t < span.begin + span.length; ++t) {
                        const naive::Row row = entries->row(h, t);
                        rows.push_back(entries == &lists[l].keys ? naive::rotated(row, -t, rotary) : row);
                    }
                    const naive::Rows transform = naive::dct(rows);
                    expected.push_back(
                        {naive::energy(transform, 0, transform.size()),
                         naive::energy(transform, static_cast<std::size_t>(span.keep), transform.size())});
                }
            }
        }
    }
    InPlaceCompressor<T, TwoSpans> compressor(TwoSpans{}, Rope(rope));
    EnergyReport report;
    const auto views = lists.template as<PagedKVView<T>>();
    compressor.compress(std::span<const ForeignList<PagedKVView<T>>>(views), options, nullptr, &report);
    const std::vector<Energy> energies = report.read();
    ASSERT_EQ(energies.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_NEAR(energies[i].total, expected[i].total, tolerance * expected[i].total) << i;
        EXPECT_NEAR(energies[i].discarded, expected[i].discarded, tolerance * expected[i].total) << i;
    }
}

// ---------------------------------------------------------------------------------------------------
// Errors.

// One list of 40 tokens that nothing may change.
template <class View>
class RefusedCalls : public testing::Test {
protected:
    static constexpr Place place = std::is_same_v<View, KVView<float>> ? Place::strided : Place::pages_by_token;

    RefusedCalls() {
        lists_.fill({from_zero(40)}, {}, 8);
        before_.fill({from_zero(40)}, {}, 8);
    }

    View keys() const { return lists_[0].keys.template as<View>(); }
    View values() const { return lists_[0].values.template as<View>(); }

    std::string message(const View& keys, const View& values, const InPlaceOptions& options = {},
                        Index compressions = 0) {
        const ForeignList<View> list{keys, values, nullptr, compressions};
        return message_of_lists(std::span(&list, 1), options);
    }

    std::string message_of_lists(std::span<const ForeignList<View>> lists, const InPlaceOptions& options = {}) {
        const std::string result = message_of([&] { compressor_.compress(lists, options); });
        lists_.download();
        if (result != "accepted") {
            EXPECT_TRUE(lists_[0].keys.bits() == before_[0].keys.bits()) << result;
            EXPECT_TRUE(lists_[0].values.bits() == before_[0].values.bits()) << result;
        }
        return result;
    }

private:
    Lists<float> lists_{{{.tokens = 40}}, place};
    Lists<float> before_{{{.tokens = 40}}, place};
    InPlaceCompressor<float> compressor_{WholeSpan{0.5}, Rope({.head_dim = 16})};
};

template <class View>
class RefusedViews : public RefusedCalls<View> {};
using ViewTypes = testing::Types<KVView<float>, PagedKVView<float>>;
TYPED_TEST_SUITE(RefusedViews, ViewTypes);

TYPED_TEST(RefusedViews, AreNamedAndNothingIsLaunched) {
    using View = TypeParam;
    const View keys = this->keys();
    const View values = this->values();
    EXPECT_EQ(this->message(with(keys, &View::data, nullptr), values), "freqkv: data of keys is 0, must not be null");
    EXPECT_EQ(this->message(keys, with(values, &View::data, nullptr)), "freqkv: data of values is 0, must not be null");
    const auto odd = reinterpret_cast<float*>(reinterpret_cast<char*>(keys.data) + 1);
    EXPECT_THAT(this->message(with(keys, &View::data, odd), values),
                testing::AllOf(testing::StartsWith("freqkv: address of keys is "),
                               testing::EndsWith(", must be a multiple of the element's size, 4")));
    EXPECT_EQ(this->message(with(keys, &View::heads, 0), values), "freqkv: heads of keys is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(this->message(with(keys, &View::tokens, 0), values),
              "freqkv: tokens of keys is 0, must be 1 to 2^31 - 1");
    EXPECT_EQ(this->message(keys, with(values, &View::head_dim, -1)),
              "freqkv: head_dim of values is -1, must be 1 to 2^20");
    EXPECT_EQ(this->message(keys, with(values, &View::heads, 1)),
              "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(this->message(keys, with(values, &View::tokens, 39)),
              "freqkv: tokens of values is 39, must be those of keys");
    EXPECT_EQ(this->message(with(keys, &View::head_dim, 8), values),
              "freqkv: head_dim of keys is 8, must be that of the rope");
    EXPECT_EQ(this->message(with(keys, &View::token_stride, Index{1} << 41), values),
              "freqkv: a stride of keys is 2199023255552, must be within 2^40");
    EXPECT_THAT(
        this->message(with(keys, &View::token_stride, 1), values),
        testing::AllOf(testing::StartsWith("freqkv: strides of keys is "), testing::EndsWith(" a place of its own")));

    EXPECT_EQ(this->message(keys, values, {.sinks = -1}),
              "freqkv: sinks is -1, must not be negative and must be below the number of tokens");
    EXPECT_THAT(this->message(keys, values, {.sinks = 40}), testing::StartsWith("freqkv: sinks is 40, "));
    EXPECT_EQ(this->message(keys, values, {.sinks = 4, .recent = 36}),
              "freqkv: recent is 36, must not be negative and must be below the number of tokens less the sinks");
    EXPECT_THAT(this->message(keys, values, {.sinks = 4, .recent = -2}), testing::StartsWith("freqkv: recent is -2, "));
    EXPECT_THAT(this->message(keys, values, {.sinks = 4, .recent = 35}),
                HasSubstr("capacity is 40, must be at least sinks + recent + 2"));
    EXPECT_EQ(this->message(keys, values, {}, -1), "freqkv: compressions is -1, must not be negative");

    if (!reaches_all_memory()) {
        std::vector<float> host(4096);
        EXPECT_EQ(this->message(keys, with(values, &View::data, host.data())),
                  "freqkv: data of values is in host memory, must be on the device, managed or allocated by "
                  "cudaMallocHost");
        const std::vector<Index> positions = from_zero(40);
        const ForeignList<View> list{keys, values, positions.data()};
        EXPECT_THAT(this->message_of_lists(std::span(&list, 1)),
                    testing::StartsWith("freqkv: positions of a list is in host memory, "));
    }

    // The second of two lists is wrong; nor is the first compressed.
    Lists<float> another({{.tokens = 40}}, this->place);
    const ForeignList<View> lists[]{
        {keys, values},
        {another[0].keys.template as<View>(), with(another[0].values.template as<View>(), &View::heads, 1)}};
    EXPECT_EQ(this->message_of_lists(lists), "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(this->message(keys, values), "accepted");
}

class RefusedStridedViews : public RefusedCalls<KVView<float>> {};

TEST_F(RefusedStridedViews, MustBeApart) {
    const std::string apart = " must not be: one call works on both at the same time";
    const KVView<float> keys = this->keys();
    const KVView<float> values = this->values();
    EXPECT_THAT(message(keys, keys), testing::EndsWith(apart)) << "keys and values are the same";
    // One dimension is in both.
    EXPECT_THAT(message(keys, with(values, &KVView<float>::data, values.data - 1)), testing::EndsWith(apart));
    const ForeignList<KVView<float>> twice[]{{keys, values}, {keys, values}};
    EXPECT_THAT(message_of_lists(twice), testing::EndsWith(apart));
    EXPECT_EQ(message(keys, values), "accepted") << "though they lie between each other";
}

class RefusedPages : public RefusedCalls<PagedKVView<float>> {};

TEST_F(RefusedPages, AreNamed) {
    using View = PagedKVView<float>;
    const View keys = this->keys();  // in 3 pages of 16 and one that is empty
    const View values = this->values();
    EXPECT_EQ(message(with(keys, &View::block_table, nullptr), values),
              "freqkv: block_table of keys is 0, must not be null");
    const auto odd = reinterpret_cast<const std::int32_t*>(reinterpret_cast<const char*>(values.block_table) + 2);
    EXPECT_THAT(message(keys, with(values, &View::block_table, odd)),
                testing::AllOf(testing::StartsWith("freqkv: address of the block_table of values is "),
                               testing::EndsWith(", must be a multiple of 4")));
    if (!reaches_all_memory()) {
        const std::vector<std::int32_t> host{0, 1, 2, 3};
        EXPECT_EQ(message(keys, with(values, &View::block_table, host.data())),
                  "freqkv: block_table of values is in host memory, must be on the device, managed or allocated by "
                  "cudaMallocHost");
    }
    EXPECT_EQ(message(with(keys, &View::tokens, 65), with(values, &View::tokens, 65)),
              "freqkv: tokens of keys is 65, must not be above the room in its pages, 64");
    EXPECT_EQ(message(with(keys, &View::table_pages, 2), values),
              "freqkv: tokens of keys is 40, must not be above the room in its pages, 32");
    EXPECT_EQ(message(keys, with(values, &View::table_pages, -1)),
              "freqkv: table_pages of values is -1, must be 0 to 2^31 - 1");
    EXPECT_EQ(message(with(keys, &View::page_tokens, 12), values),
              "freqkv: page_tokens of keys is 12, must be a power of two up to 2^20");
    EXPECT_EQ(message(with(keys, &View::page_tokens, 0), values),
              "freqkv: page_tokens of keys is 0, must be a power of two up to 2^20");
    EXPECT_EQ(message(keys, with(values, &View::page_tokens, 32)),
              "freqkv: page_stride of values is 512, must step over a page, which reaches over 768 elements");
    EXPECT_EQ(message(with(keys, &View::page_stride, 511), values),
              "freqkv: page_stride of keys is 511, must step over a page, which reaches over 512 elements");
    EXPECT_EQ(message(with(with(keys, &View::page_tokens, 8), &View::table_pages, 5), values),
              "freqkv: page_tokens of values is 16, must be those of keys");
    EXPECT_EQ(message(keys, keys), "freqkv: data of values is 0, must not be that of keys");
    EXPECT_EQ(message(keys, values), "accepted");
}

TEST(DeviceInPlaceErrors, OfScheduleAndRope) {
    Lists<float> lists({{.tokens = 20}}, Place::strided);
    const KVView<float> keys = lists[0].keys.strided();
    const KVView<float> values = lists[0].values.strided();
    InPlaceCompressor<float> greedy(WholeSpan{1.5});
    EXPECT_THAT([&] { greedy.compress(keys, values); }, refuses("ratio is 1.500000, must be above 0 and below 1"));
    EXPECT_THAT([&] { greedy.prepare(20); }, refuses("ratio is 1.500000, must be above 0 and below 1"));
    struct Outside {
        SpanList plan(const CacheLayout& layout, Index) const { return {{0, layout.entries, 2}}; }
    };
    InPlaceCompressor<float, Outside> outside;
    EXPECT_THAT([&] { outside.compress(keys, values); }, refuses("begin of a span is 0"));
    EXPECT_THAT([] { Rope({.head_dim = 7, .rotated_dims = 8}); }, refuses("rotated_dims is 8"));
    EXPECT_THAT([] { Rope({.head_dim = 8, .base = 0}); }, refuses("base is 0"));
    // Longer than any transform: 20000 tokens.
    InPlaceCompressor<float> compressor;
    EXPECT_THAT([&] { compressor.prepare(20000); }, refuses("n is 19996, must be 1 to 16384 on a device"));
}

}  // namespace
}  // namespace freqkv::cuda
