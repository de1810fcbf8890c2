// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda/in_place_cases.cuh"
#include "device_tests.cuh"
#include "freqkv/cuda/energy_report.cuh"
#include "freqkv/cuda/in_place.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/energy.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/schedule.hpp"
#include "freqkv/rope_options.hpp"
#include "naive.hpp"

namespace freqkv::cuda::in_place_test {
namespace {

TYPED_TEST_SUITE(DeviceInPlaceTest, ElementTypes, ElementNames);

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
        struct KeepPolicy {
            Keep schedule;
            FrequencyCodec<> codec;
        };
        Lists<float> lists({{.tokens = c.tokens}}, Place::pages_by_token, c.page_tokens);
        lists.fill({from_zero(c.tokens)}, {}, 1);
        InPlaceCompressor<float, KeepPolicy> compressor(KeepPolicy{{c.keep}, {}});
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
                                       {.sinks = 0}, LowPass<>(0.5)),
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
    compressor.make_plans(tokens, options);
    EXPECT_EQ(compressor.table_bytes(), 0);
    EnergyReport report;
    const InPlaceResult result = compressor.compress(lists[0].keys.paged(), lists[0].values.paged(), options, report);
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
        for (const Span& span : TwoSpansSchedule{}.plan({shapes[l].tokens, options.sinks, options.recent}, 0)) {
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
    compressor.compress(std::span<const ForeignList<PagedKVView<T>>>(views), options, report);
    const std::vector<Energy> energies = report.read();
    ASSERT_EQ(energies.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_NEAR(energies[i].total, expected[i].total, tolerance * expected[i].total) << i;
        EXPECT_NEAR(energies[i].discarded, expected[i].discarded, tolerance * expected[i].total) << i;
    }
}

}  // namespace
}  // namespace freqkv::cuda::in_place_test
