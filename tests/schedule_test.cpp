// SPDX-License-Identifier: MIT
#include "freqkv/policy/schedule.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "freqkv/policy/binary_tiers.hpp"
#include "freqkv/policy/equal_weight.hpp"
#include "freqkv/policy/whole_span.hpp"
#include "message_of.hpp"

namespace freqkv {
namespace {

using test::message_of;
using testing::HasSubstr;

TEST(WholeSpan, KeepsTheFloorOfRatioTimesSpan) {
    for (const double ratio : {0.1, 0.25, 0.3, 0.5, 0.75, 0.9}) {
        for (const Index sinks : {0, 1, 4}) {
            for (const Index recent : {0, 3, 16}) {
                for (const Index span : {10, 11, 13, 96, 127, 4092}) {
                    const SpanList spans = WholeSpan{ratio}.plan({sinks + span + recent, sinks, recent}, 7);
                    ASSERT_EQ(spans.size(), 1);
                    const auto keep = static_cast<Index>(std::floor(ratio * static_cast<double>(span)));
                    EXPECT_EQ(spans[0], (Span{sinks, span, keep}))
                        << "ratio " << ratio << ", sinks " << sinks << ", recent " << recent << ", span " << span;
                }
            }
        }
    }
    EXPECT_EQ(WholeSpan{}.plan({4096, 4, 0}, 0)[0], (Span{4, 4092, 2046})) << "the paper's LLaMA-2 setting";
}

TEST(WholeSpan, RefusesWhatLeavesNothingToCompress) {
    const auto message = [](double ratio, const CacheLayout& layout) {
        return message_of([&] { (void)WholeSpan{ratio}.plan(layout, 0); });
    };
    const CacheLayout layout{64, 4, 8};
    EXPECT_EQ(message(0.5, layout), "accepted");
    for (const double ratio : {0.0, 1.0, -0.5, 2.0}) {
        EXPECT_THAT(message(ratio, layout),
                    HasSubstr("ratio is " + std::to_string(ratio) + ", must be above 0 and below 1"));
    }
    EXPECT_THAT(message(std::numeric_limits<double>::quiet_NaN(), layout), HasSubstr("must be above 0 and below 1"));
    EXPECT_THAT(message(0.01, layout), HasSubstr("ratio is 0.010000, keeps nothing of so short a span"));
    EXPECT_THAT(message(0.5, {13, 4, 8}), HasSubstr("capacity is 13, must be at least sinks + recent + 2"));
    EXPECT_EQ(message(0.5, {14, 4, 8}), "accepted");
    EXPECT_THAT(message(0.5, {4, 4, 8}), HasSubstr("capacity is 4"));
}

TEST(CheckSpans, AcceptsDisjointAscendingSpansBetweenSinksAndRecentPart) {
    const CacheLayout layout{100, 4, 10};
    for (const SpanList& spans : {SpanList{{4, 86, 43}}, SpanList{{4, 2, 1}}, SpanList{{88, 2, 1}},
                                  SpanList{{4, 10, 9}, {14, 20, 1}, {50, 40, 2}}}) {
        EXPECT_EQ(message_of([&] { check_spans(spans, layout); }), "accepted");
    }
}

TEST(CheckSpans, RefusesEachBadPlan) {
    const CacheLayout layout{100, 4, 10};
    const struct {
        const char* what;
        SpanList spans;
        const char* message;
    } plans[]{
        {"no span at all", {}, "number of spans is 0, a schedule must compress at least one"},
        {"in the sinks", {{3, 20, 10}}, "begin of a span is 3, must be behind the sinks"},
        {"before the list", {{-1, 20, 10}}, "begin of a span is -1"},
        {"in the recent part",
         {{80, 11, 5}},
         "length of a span is 11, must be at least 2 and end before the recent part"},
        {"behind the list", {{200, 2, 1}}, "length of a span is 2"},
        {"overlapping",
         {{4, 20, 10}, {23, 10, 5}},
         "begin of a span is 23, must be behind the sinks and the span before it"},
        {"descending", {{50, 10, 5}, {20, 10, 5}}, "begin of a span is 20"},
        {"keeping nothing", {{4, 20, 0}}, "keep of a span is 0, must be within 1 and the span's length - 1"},
        {"keeping less than nothing", {{4, 20, -3}}, "keep of a span is -3"},
        {"keeping all", {{4, 20, 20}}, "keep of a span is 20, must be within 1 and the span's length - 1"},
        {"of one entry", {{4, 1, 1}}, "length of a span is 1, must be at least 2"},
        {"of no entry", {{4, 0, 0}}, "length of a span is 0"},
        {"bad in its second span alone", {{4, 20, 10}, {24, 5, 5}}, "keep of a span is 5"},
    };
    for (const auto& plan : plans) {
        EXPECT_THAT(message_of([&] { check_spans(plan.spans, layout); }), HasSubstr(plan.message)) << plan.what;
    }
}

TEST(SpanList, HoldsUpToItsMaximum) {
    SpanList spans;
    for (Index i = 0; i < SpanList::max_size; ++i) spans.push_back({2 * i, 2, 1});
    EXPECT_EQ(spans.size(), SpanList::max_size);
    EXPECT_EQ(message_of([&] { check_spans(spans, {2 * SpanList::max_size, 0, 0}); }), "accepted");
    EXPECT_THAT(message_of([&] { spans.push_back({64, 2, 1}); }),
                HasSubstr("number of spans is 33, must not be above SpanList::max_size (32)"));
    EXPECT_EQ(spans.size(), SpanList::max_size);
}

// The rule, from one compression to the next.
TEST(BinaryTiers, AreACounterThatIsReadAtOnce) {
    for (const Index tiers : {1, 2, 3, 7}) {
        const Index block = 3;
        const CacheLayout layout{2 * (tiers + 1) * block + 9, 4, 5};
        std::vector<Index> blocks(static_cast<std::size_t>(tiers + 1));  // of each tier; [0] is not used
        for (Index c = 0; c < 3000; ++c) {
            SpanList expected;
            Index begin = layout.sinks;
            for (auto tier = static_cast<std::size_t>(tiers); tier >= 1; --tier) {
                if (blocks[tier] == 2) expected.push_back({begin, 2 * block, block});
                begin += blocks[tier] * block;
            }
            expected.push_back({begin, 2 * block, block});
            const SpanList spans = BinaryTiers{0, tiers}.plan(layout, c);
            ASSERT_EQ(std::vector<Span>(spans.begin(), spans.end()),
                      std::vector<Span>(expected.begin(), expected.end()))
                << tiers << " tiers, compression " << c;
            check_spans(spans, layout);

            Index arriving = 1;
            for (std::size_t tier = 1; tier < blocks.size(); ++tier) {
                const bool is_pair = blocks[tier] == 2;
                const bool is_last = tier + 1 == blocks.size();
                blocks[tier] += arriving - (is_pair ? 2 : 0) + (is_pair && is_last ? 1 : 0);
                arriving = is_pair ? 1 : 0;
            }
        }
    }
}

TEST(EqualWeight, HasTheSameResolutionForAllOfThePast) {
    for (const double ratio : {0.25, 0.5, 0.8}) {
        const Index length = 200;
        const CacheLayout layout{length + 9, 4, 5};
        const auto kept = static_cast<Index>(ratio * static_cast<double>(length));
        Index tokens = length;  // that the kept entries stand for
        EXPECT_EQ(EqualWeight{ratio}.plan(layout, 0)[0], (Span{4, length, kept}));
        for (Index c = 1; c < 2000; ++c) {
            const SpanList spans = EqualWeight{ratio}.plan(layout, c);
            check_spans(spans, layout);
            ASSERT_EQ(spans.size(), 2);
            const Index came = length - kept;
            EXPECT_EQ(spans[0].begin, 4);
            EXPECT_EQ(spans[0].length, kept);
            EXPECT_EQ(spans[1].begin, 4 + kept);
            EXPECT_EQ(spans[1].length, came);
            EXPECT_EQ(spans[0].keep + spans[1].keep, kept) << "of which there are as many behind each compression";
            const double fair = static_cast<double>(kept * came) / static_cast<double>(tokens + came);
            EXPECT_NEAR(static_cast<double>(spans[1].keep), std::max(1.0, fair), 0.5 + 1e-9)
                << "ratio " << ratio << ", compression " << c;
            tokens += came;
        }
    }
}

TEST(EqualWeight, RefusesWhatLeavesNothingToCompress) {
    const auto message = [](double ratio, Index entries) {
        return message_of([&] { (void)EqualWeight{ratio}.plan({entries, 4, 5}, 3); });
    };
    EXPECT_EQ(message(0.5, 13), "accepted");
    EXPECT_THAT(message(0.5, 12), HasSubstr("capacity is 12, must leave at least 2 entries kept and 2 dropped"));
    EXPECT_THAT(message(0.9, 19), HasSubstr("capacity is 19"));
    for (const double ratio : {0.0, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
        EXPECT_THAT(message(ratio, 100), HasSubstr("must be within 0 and 1"));
    }
}

TEST(BinaryTiers, RefuseWhatHasNoRoom) {
    const auto message = [](const BinaryTiers& tiers, const CacheLayout& layout) {
        return message_of([&] { (void)tiers.plan(layout, 0); });
    };
    EXPECT_THAT(message({0, 0}, {100, 4, 0}), HasSubstr("tiers is 0, must be within 1 and 31"));
    EXPECT_THAT(message({0, 32}, {1000, 4, 0}), HasSubstr("tiers is 32"));
    EXPECT_THAT(message({-1, 3}, {100, 4, 0}), HasSubstr("block is -1"));
    EXPECT_THAT(message({0, 31}, {60, 4, 0}), HasSubstr("capacity is 60, must have room for 2 * (tiers + 1) blocks"));
    EXPECT_THAT(message({13, 3}, {104, 4, 0}), HasSubstr("capacity is 104"));
    EXPECT_EQ(message({12, 3}, {104, 4, 0}), "accepted");
}

}  // namespace
}  // namespace freqkv
