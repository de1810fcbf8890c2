// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "freqkv/policy.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "message_of.hpp"
#include "model_cache.hpp"
#include "same_entries.hpp"

namespace freqkv {
namespace {

using test::expect_identical;
using test::message_of;
using testing::HasSubstr;
using testing_model::append;
using testing_model::attend;
using testing_model::cache_options;
using testing_model::make_cache;
using testing_model::Of;
using testing_model::OfThree;
using testing_model::Text;

// Throws at a chosen call of a chosen part; each part is WholeSpan's or LowPass's or LocalWindow's otherwise.
struct Fuse {
    Index calls_left = 0;  // throws when it falls to 0; 0: never
    void burn() {
        if (calls_left > 0 && --calls_left == 0) throw std::runtime_error("the fuse has burnt");
    }
};

struct FusedSchedule {
    Fuse* fuse = nullptr;
    // Another pair of lengths each time, so that a transform has to make plans.
    SpanList plan(const CacheLayout& layout, Index compressions) const {
        if (fuse != nullptr) fuse->burn();
        const Index length = layout.entries - layout.sinks - layout.recent;
        return {Span{layout.sinks, length, length / 2 - compressions % 5}};
    }
};
struct FusedSelection {
    Fuse* fuse = nullptr;
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        if (fuse != nullptr) fuse->burn();
        return SelectLatest{}.select(span, keep, chosen, scratch);
    }
};
struct FusedTransform {
    Fuse* fuse_of_plan = nullptr;
    Fuse* fuse_of_kept = nullptr;
    template <class C>
    auto plan(Index length, Index keep) const {
        if (fuse_of_plan != nullptr) fuse_of_plan->burn();
        return FrequencyCodec<>{}.template plan<C>(length, keep);
    }
    template <class T>
    Index kept(const SpanReader<T>&, Index keep) const {
        if (fuse_of_kept != nullptr) fuse_of_kept->burn();
        return keep;
    }
};
struct FusedAllocation {
    Fuse* fuse = nullptr;
    template <class T>
    void allocate(std::span<const DueHead<T>>) const {
        if (fuse != nullptr) fuse->burn();
    }
};

// The policy's third compression fails, at the fuse's `calls_left`-th call from the beginning of the text.
// The tokens before that boundary remain, and feeding the others again gives what never failed would have.
template <class P>
void expect_recovery(const P& policy, Fuse& fuse, Index calls_left) {
    const Text text = Text::random(200);
    const CacheOptions options = cache_options(text, 40, 4, 5);
    auto reference = make_cache<float>(text, options, policy);
    std::vector<float> expected;
    Index boundary = 0;
    for (Index t = 0; boundary == 0; ++t) {
        if (reference.compressions() == 2 && reference.room() == 0) {
            boundary = t;
        } else {
            append(reference, text, t, 1);
        }
    }
    auto complete = make_cache<float>(text, options, policy);
    attend(complete, text, 0, text.tokens, expected);

    auto fed = make_cache<float>(text, options, policy);
    fuse.calls_left = calls_left;
    EXPECT_THROW(append(fed, text, 0, text.tokens), std::runtime_error);
    ASSERT_EQ(fed.tokens_seen(), boundary);
    ASSERT_NO_FATAL_FAILURE(expect_identical(fed, reference));
    fuse.calls_left = 1;
    EXPECT_THROW(append(fed, text, boundary, text.tokens - boundary), std::runtime_error) << "fails again";
    ASSERT_NO_FATAL_FAILURE(expect_identical(fed, reference));
    fuse.calls_left = 1;
    EXPECT_THROW(fed.prepare(), std::runtime_error);
    ASSERT_NO_FATAL_FAILURE(expect_identical(fed, reference));
    fuse.calls_left = 0;
    append(fed, text, boundary, text.tokens - boundary);
    ASSERT_NO_FATAL_FAILURE(expect_identical(fed, complete));

    auto attended = make_cache<float>(text, options, policy);
    std::vector<float> out;
    fuse.calls_left = calls_left;
    EXPECT_THROW(attend(attended, text, 0, text.tokens, out), std::runtime_error);
    ASSERT_NO_FATAL_FAILURE(expect_identical(attended, reference));
    fuse.calls_left = 0;
    attend(attended, text, boundary, text.tokens - boundary, out);
    ASSERT_NO_FATAL_FAILURE(expect_identical(attended, complete));
    EXPECT_EQ(out, expected) << "results of attention before and after the failure";
}

TEST(FailingPolicy, LeavesTheTokensBeforeTheBoundary) {
    Fuse fuse;
    // Two heads: the first two compressions call each part four times, an allocation twice. The fuse is
    // burnt by the second head where heads are called one by one.
    {
        SCOPED_TRACE("schedule");
        expect_recovery(Of<FusedSchedule, SelectLatest>{{&fuse}, {}}, fuse, 6);
        expect_recovery(Of<FusedSchedule, FrequencyCodec<>>{{&fuse}, {}}, fuse, 6);
    }
    {
        SCOPED_TRACE("selection");
        expect_recovery(Of<FusedSchedule, FusedSelection>{{}, {&fuse}}, fuse, 6);
    }
    {
        SCOPED_TRACE("kept() of a transform");
        expect_recovery(Of<FusedSchedule, FusedTransform>{{}, {nullptr, &fuse}}, fuse, 6);
    }
    {
        SCOPED_TRACE("plan() of a transform");
        // The constructor makes the first compression's plan; the second needs one of its own.
        expect_recovery(Of<FusedSchedule, FusedTransform>{{}, {&fuse, nullptr}}, fuse, 2);
    }
    {
        SCOPED_TRACE("allocation");
        expect_recovery(OfThree<FusedSchedule, SelectLatest, FusedAllocation>{{}, {}, {&fuse}}, fuse, 3);
    }
}

// Codecs and allocations that break their promise at a chosen moment.
struct Choice {
    std::vector<Index> indices;
    Index count = 0;
    bool active = false;
};
struct SelectAsTold {
    const Choice* choice = nullptr;
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        if (!choice->active || span.head() == 0) return SelectLatest{}.select(span, keep, chosen, scratch);
        std::copy(choice->indices.begin(), choice->indices.end(), chosen);
        return choice->count;
    }
};
struct KeepAsTold : FrequencyCodec<> {
    const Choice* choice = nullptr;
    explicit KeepAsTold(const Choice* c) : choice(c) {}
    template <class T>
    Index kept(const SpanReader<T>& span, Index keep) const {
        return !choice->active || span.head() == 0 ? keep : choice->count;
    }
};
struct AllocateAsTold {
    const Choice* choice = nullptr;
    template <class T>
    void allocate(std::span<const DueHead<T>> heads) const {
        if (choice->active) (*heads.back().spans)[0].keep = choice->count;
    }
};
struct ScheduleAsTold {
    const Choice* choice = nullptr;
    SpanList plan(const CacheLayout& layout, Index) const {
        const Index begin = choice->active ? choice->count : layout.sinks;
        return {Span{begin, layout.entries - layout.recent - begin, 4}};
    }
};

// In the middle of a text, the policy's next choice is refused and nothing changes.
template <class P>
void expect_refused(const P& policy, Choice& choice, const std::string& message) {
    SCOPED_TRACE(message);
    const Text text = Text::random(200);
    const CacheOptions options = cache_options(text, 24, 4, 0);
    choice.active = false;
    auto cache = make_cache<float>(text, options, policy);
    append(cache, text, 0, 24);
    ASSERT_EQ(cache.room(), 0);
    const auto before = cache;
    choice.active = true;
    EXPECT_THAT(message_of([&] { append(cache, text, 24, 10); }), HasSubstr(message));
    ASSERT_NO_FATAL_FAILURE(expect_identical(cache, before));
    EXPECT_THAT(message_of([&] { cache.prepare(); }), HasSubstr(message));
    ASSERT_NO_FATAL_FAILURE(expect_identical(cache, before));
    choice.active = false;
    append(cache, text, 24, 10);
    EXPECT_EQ(cache.tokens_seen(), 34) << "and it goes on";
}

TEST(FailingPolicy, IsRefusedWithoutChange) {
    Choice choice;  // of 10 out of 20
    const Of<WholeSpan, SelectAsTold> selection{{}, {&choice}};
    const auto refuse_choice = [&](std::vector<Index> indices, Index count, const std::string& message) {
        choice = {std::move(indices), count, false};
        expect_refused(selection, choice, message);
    };
    refuse_choice({-1}, 1, "index chosen by the codec is -1, must be within the span and ascend");
    refuse_choice({20}, 1, "index chosen by the codec is 20, must be within the span and ascend");
    refuse_choice({0, 1, 99}, 3, "index chosen by the codec is 99");
    refuse_choice({3, 3}, 2, "index chosen by the codec is 3");
    refuse_choice({5, 4}, 2, "index chosen by the codec is 4");
    refuse_choice({}, 0, "number of entries chosen by the codec is 0, must be within 1 and what the schedule allows");
    refuse_choice({}, -1, "number of entries chosen by the codec is -1");
    refuse_choice({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 11, "number of entries chosen by the codec is 11");

    const Of<WholeSpan, KeepAsTold> transform{{}, KeepAsTold(&choice)};
    for (const Index kept : {0, -1, 11}) {
        choice = {{}, kept, false};
        expect_refused(transform, choice, "number of entries kept by the codec is " + std::to_string(kept));
    }
    const OfThree<WholeSpan, SelectLatest, AllocateAsTold> allocation{{}, {}, {&choice}};
    for (const Index keep : {0, 20, -4}) {
        choice = {{}, keep, false};
        expect_refused(allocation, choice, "keep of a span is " + std::to_string(keep));
    }
    const Of<ScheduleAsTold, SelectLatest> schedule{{&choice}, {}};
    for (const Index begin : {0, 3}) {
        choice = {{}, begin, false};
        expect_refused(schedule, choice, "begin of a span is " + std::to_string(begin));
    }
}

TEST(FailingPolicy, IsRefusedByTheConstructorWhereItCannotCompressAFullCache) {
    const Text text = Text::random(1);
    EXPECT_THAT(message_of([&] { make_cache<float>(text, cache_options(text, 24, 4, 0), LowPass<>(1.5)); }),
                HasSubstr("ratio is 1.500000"));
    EXPECT_THAT(message_of([&] { make_cache<float>(text, cache_options(text, 24, 4, 0), LocalWindow(0.01)); }),
                HasSubstr("keeps nothing of so short a span"));
    Choice choice{{}, 2, true};
    EXPECT_THAT(message_of([&] {
                    make_cache<float>(text, cache_options(text, 24, 4, 0),
                                      Of<ScheduleAsTold, SelectLatest>{{&choice}, {}});
                }),
                HasSubstr("begin of a span is 2, must be behind the sinks"));
}

}  // namespace
}  // namespace freqkv
