// SPDX-License-Identifier: MIT
#include "freqkv/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "message_of.hpp"
#include "model_cache.hpp"
#include "naive_cache.hpp"
#include "same_entries.hpp"

namespace freqkv {
namespace {

using test::expect_identical;
using test::message_of;
using testing::HasSubstr;
using testing_model::append;
using testing_model::attend;
using testing_model::cache_options;
using testing_model::expect_as_model;
using testing_model::expect_chunks_agree;
using testing_model::make_cache;
using testing_model::ModelCache;
using testing_model::Of;
using testing_model::OfThree;
using testing_model::Text;

// ---------------------------------------------------------------------------------------------------
// The concepts.

struct NotCopyable {
    NotCopyable() = default;
    NotCopyable(NotCopyable&&) = default;
};

struct ScheduleWithoutPlan {};
struct ScheduleThatReturnsOneSpan {
    Span plan(const CacheLayout&, Index) const { return {}; }
};
struct ScheduleThatChanges {
    SpanList plan(const CacheLayout&, Index) { return {}; }
};
struct ScheduleThatStays : NotCopyable {
    SpanList plan(const CacheLayout&, Index) const { return {}; }
};
static_assert(Schedule<WholeSpan>);
static_assert(!Schedule<ScheduleWithoutPlan>);
static_assert(!Schedule<ScheduleThatReturnsOneSpan>);
static_assert(!Schedule<ScheduleThatChanges>);
static_assert(!Schedule<ScheduleThatStays>);

struct SelectionForFloatAlone {
    Index select(const SpanReader<float>&, Index, Index*, std::byte*) const { return 1; }
};
struct SelectionWithoutScratch {
    template <class T>
    Index select(const SpanReader<T>&, Index, Index*) const {
        return 1;
    }
};
struct SelectionThatReturnsNothing {
    template <class T>
    void select(const SpanReader<T>&, Index, Index*, std::byte*) const {}
};
struct SelectionThatChanges {
    template <class T>
    Index select(const SpanReader<T>&, Index, Index*, std::byte*) {
        return 1;
    }
};
struct SelectionWithStrangeScratch : SelectLatest {
    Index scratch_bytes(Index) const { return 64; }
};
static_assert(SelectionCodec<SelectLatest, float> && SelectionCodec<SelectLatest, double>);
static_assert(SelectionCodec<SelectLatest, Eigen::half> && SelectionCodec<SelectLatest, Eigen::bfloat16>);
static_assert(SelectionCodec<SelectionForFloatAlone, float> && !SelectionCodec<SelectionForFloatAlone, double>);
static_assert(!SelectionCodec<SelectionWithoutScratch, float>);
static_assert(!SelectionCodec<SelectionThatReturnsNothing, float>);
static_assert(!SelectionCodec<SelectionThatChanges, float>);
static_assert(!SelectionCodec<SelectionWithStrangeScratch, float>, "not silently without scratch");
static_assert(!SelectionCodec<FrequencyCodec<>, float>);

// Repeats the first entry: a transform simple enough to vary.
template <Index Columns = 2, bool NoExcept = true>
struct RepeatFirst {
    static constexpr Index block_columns = Columns;
    Index keep = 1;
    Index scratch_bytes() const { return 0; }
    template <class In, class Out>
    void forward(const In&, const Out&, std::byte*, Energy*) const noexcept(NoExcept) {}
};
struct PlanWithoutWidth {
    Index scratch_bytes() const { return 0; }
    template <class In, class Out>
    void forward(const In&, const Out&, std::byte*, Energy*) const noexcept {}
};
struct PlanWithoutScratch {
    static constexpr Index block_columns = 2;
    template <class In, class Out>
    void forward(const In&, const Out&, std::byte*, Energy*) const noexcept {}
};
struct PlanWithoutEnergy {
    static constexpr Index block_columns = 2;
    Index scratch_bytes() const { return 0; }
    template <class In, class Out>
    void forward(const In&, const Out&, std::byte*) const noexcept {}
};
static_assert(TransformPlan<FrequencyCompressor<float, dct::Direct>, float>);
static_assert(TransformPlan<FrequencyCompressor<double, dct::Direct>, double>);
static_assert(TransformPlan<RepeatFirst<>, float>);
static_assert(!TransformPlan<RepeatFirst<2, false>, float>, "a commit must not throw");
static_assert(!TransformPlan<RepeatFirst<3>, float>, "rotated columns come in pairs");
static_assert(!TransformPlan<RepeatFirst<0>, float>);
static_assert(!TransformPlan<PlanWithoutWidth, float>);
static_assert(!TransformPlan<PlanWithoutScratch, float>);
static_assert(!TransformPlan<PlanWithoutEnergy, float>);

struct TransformWithPlanForAllTypes {
    RepeatFirst<> plan(Index, Index) const { return {}; }
};
struct TransformWithoutLengths {
    template <class C>
    RepeatFirst<> plan() const {
        return {};
    }
};
struct TransformWithUselessPlan {
    template <class C>
    int plan(Index, Index) const {
        return 0;
    }
};
static_assert(TransformCodec<FrequencyCodec<>, float> && TransformCodec<FrequencyCodec<>, double>);
static_assert(!TransformCodec<TransformWithPlanForAllTypes, float>, "plan is a template");
static_assert(!TransformCodec<TransformWithoutLengths, float>);
static_assert(!TransformCodec<TransformWithUselessPlan, float>);
static_assert(!TransformCodec<SelectLatest, float>);

struct AllocationOfNothing {
    template <class T>
    void allocate(std::span<const DueHead<T>>) const {}
};
struct AllocationWithoutHeads {
    void allocate() const {}
};
struct AllocationThatChanges {
    template <class T>
    void allocate(std::span<const DueHead<T>>) {}
};
struct AllocationForFloatAlone {
    void allocate(std::span<const DueHead<float>>) const {}
};
static_assert(Allocation<AllocationForFloatAlone, float> && !Allocation<AllocationForFloatAlone, Eigen::half>);
static_assert(!Allocation<AllocationWithoutHeads, float>);
static_assert(!Allocation<AllocationThatChanges, float>);
static_assert(!Allocation<WholeSpan, float>);

struct Constant {
    static constexpr WholeSpan schedule{0.5};
    static constexpr SelectLatest codec{};
};
struct Unbounded {
    static constexpr bool grows = true;
};
struct NotUnbounded {
    static constexpr bool grows = false;
};
struct BothKinds : SelectLatest, FrequencyCodec<> {};
struct TransformWithStrangeKept : FrequencyCodec<> {
    template <class T>
    Index kept(const SpanReader<T>&) const {
        return 1;
    }
};
struct CodecOnly {
    SelectLatest codec;
};
struct ScheduleOnly {
    WholeSpan schedule;
};
static_assert(GrowingPolicy<Full> && GrowingPolicy<Unbounded>);
static_assert(!GrowingPolicy<NotUnbounded> && !GrowingPolicy<LowPass<>> && !GrowingPolicy<int>);
static_assert(BoundedPolicy<LowPass<>, float> && BoundedPolicy<LowPass<>, double>);
static_assert(BoundedPolicy<LowPass<>, Eigen::half> && BoundedPolicy<LocalWindow, Eigen::bfloat16>);
static_assert(BoundedPolicy<Constant, float>, "parts may be constants");
static_assert(BoundedPolicy<OfThree<WholeSpan, SelectLatest, AllocationForFloatAlone>, float>);
static_assert(!BoundedPolicy<OfThree<WholeSpan, SelectLatest, AllocationForFloatAlone>, double>);
static_assert(!BoundedPolicy<OfThree<WholeSpan, SelectLatest, AllocationWithoutHeads>, float>);
static_assert(!BoundedPolicy<CodecOnly, float> && !BoundedPolicy<ScheduleOnly, float>);
static_assert(!BoundedPolicy<Of<ScheduleWithoutPlan, SelectLatest>, float>);
static_assert(!BoundedPolicy<Of<WholeSpan, TransformWithUselessPlan>, float>);
static_assert(!BoundedPolicy<Of<WholeSpan, BothKinds>, float>, "a codec is of one kind");
static_assert(!BoundedPolicy<Of<WholeSpan, TransformWithStrangeKept>, float>, "not silently keeping all");
static_assert(!BoundedPolicy<Of<ScheduleThatStays, SelectLatest>, float>);
static_assert(!BoundedPolicy<Full, float>);
static_assert(Policy<Full, float> && Policy<LowPass<>, float> && Policy<LocalWindow, float>);
static_assert(!Policy<WholeSpan, float> && !Policy<SelectLatest, float> && !Policy<NotUnbounded, float>);

static_assert(detail::check_policy<Constant, float>());
static_assert(detail::check_policy<LowPass<>, Eigen::half>() && detail::check_policy<Full, float>());

// ---------------------------------------------------------------------------------------------------
// WholeSpan, and what any schedule is held to.

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

// ---------------------------------------------------------------------------------------------------
// What a codec is shown.

TEST(SpanReader, ShowsEntriesOfTheMiddleOfAList) {
    const Text text = Text::random(10);
    const naive::Rotary rotary = testing_model::naive_rotary(text);
    const Rope<float> rope(testing_model::rope_options(text), 4);  // a table too short for most positions
    const std::vector<Index> elsewhere{0, 5, 3, 100, 90, 1, 2, 50, 51, 7};
    for (const bool explicit_positions : {false, true}) {
        const std::span<const Index> positions = explicit_positions ? std::span(elsewhere) : std::span<const Index>();
        naive::Rows plain;
        std::vector<float> stored;  // every second element, head 1
        for (Index t = 0; t < 10; ++t) {
            plain.push_back({});
            for (Index d = 0; d < 8; ++d) plain.back().push_back(text.keys(t, 1).head(1)(0, d));
            const Index position = explicit_positions ? elsewhere[static_cast<std::size_t>(t)] : t;
            for (const double x : naive::rotated(plain.back(), position, rotary)) {
                stored.insert(stored.end(), {static_cast<float>(x), -1.0F});
            }
        }
        const MatrixView<const float> keys(stored.data(), 10, 8, 16, 2);
        const MatrixView<const float> values = text.values(0, 10).head(1);
        const SpanReader<float> span(1, keys.middle_rows(3, 5), values.middle_rows(3, 5), &rope, positions, 3, 10, {});
        EXPECT_EQ(span.head(), 1);
        EXPECT_EQ(span.size(), 5);
        EXPECT_EQ(span.key_dim(), 8);
        EXPECT_EQ(span.value_dim(), 6);
        EXPECT_EQ(span.first(), 3);
        EXPECT_EQ(span.list_size(), 10);
        EXPECT_EQ(span.rope(), &rope);
        EXPECT_EQ(span.queries().tokens(), 0);
        for (Index i = 0; i < 5; ++i) {
            SCOPED_TRACE("entry " + std::to_string(i));
            const auto entry = static_cast<std::size_t>(3 + i);
            EXPECT_EQ(span.position(i), explicit_positions ? elsewhere[entry] : 3 + i);
            std::array<float, 8> key{}, angles{};
            span.load_key(i, key.data(), angles.data());
            for (std::size_t d = 0; d < 8; ++d) EXPECT_NEAR(key[d], plain[entry][d], 1e-6) << "un-rotated";
            span.load_stored_key(i, key.data());
            for (std::size_t d = 0; d < 8; ++d) EXPECT_EQ(key[d], stored[16 * entry + 2 * d]) << "as stored";
            std::array<float, 6> value{};
            span.load_value(i, value.data());
            for (Index d = 0; d < 6; ++d) EXPECT_EQ(value[static_cast<std::size_t>(d)], values(3 + i, d));
        }
    }
}

TEST(SpanReader, TakesKeysThatAreNotRotatedAsTheyAre) {
    const std::vector<Eigen::half> keys{Eigen::half(1.0F), Eigen::half(2.0F), Eigen::half(3.0F), Eigen::half(4.0F)};
    const MatrixView<const Eigen::half> rows(keys.data(), 2, 2);
    const SpanReader<Eigen::half> span(0, rows, rows, nullptr, {}, 0, 2, {});
    EXPECT_EQ(span.rope(), nullptr);
    std::array<float, 2> key{};
    span.load_key(1, key.data(), nullptr);
    EXPECT_THAT(key, testing::ElementsAre(3, 4));
    span.load_stored_key(0, key.data());
    EXPECT_THAT(key, testing::ElementsAre(1, 2));
}

TEST(QueryWindow, IsOldestFirst) {
    std::vector<float> ring(4 * 2 * 3);                                                 // [window, heads, dim]
    for (std::size_t i = 0; i < ring.size(); ++i) ring[i] = static_cast<float>(i / 3);  // row: slot * heads + head
    const auto window = [&](Index seen) { return QueryWindow<float>{ring.data(), 4, 2, 3, seen}; };
    EXPECT_EQ(window(0).tokens(), 0);
    EXPECT_EQ(window(3).tokens(), 3);
    EXPECT_EQ(window(10).tokens(), 4);
    EXPECT_EQ(*window(3).query(0, 1), 1) << "token 0 in slot 0";
    EXPECT_EQ(*window(3).query(2, 0), 4) << "token 2 in slot 2";
    EXPECT_EQ(*window(10).query(0, 0), 4) << "token 6 in slot 2";
    EXPECT_EQ(*window(10).query(3, 1), 3) << "token 9 in slot 1";
}

// ---------------------------------------------------------------------------------------------------
// The shipped policies.

TEST(LowPass, IsThePaper) {
    const Text text = Text::random(400);
    for (const Index recent : {0, 7}) {
        const CacheOptions options = cache_options(text, 48, 4, recent);
        ModelCache model(text, 48, naive::whole_span(4, recent, 0.3, &naive::Head::low_pass));
        expect_as_model(LowPass<>(0.3), options, text, model);
        expect_chunks_agree<float>(LowPass<>(0.3), options, text);
        expect_chunks_agree<Eigen::bfloat16>(LowPass<>(0.3), options, text);
    }
}

TEST(LocalWindow, KeepsTheLatest) {
    const Text text = Text::random(400);
    for (const Index recent : {0, 7}) {
        const CacheOptions options = cache_options(text, 48, 4, recent);
        ModelCache model(text, 48, naive::whole_span(4, recent, 0.3, &naive::Head::select_latest));
        expect_as_model(LocalWindow(0.3), options, text, model);
        expect_chunks_agree<float>(LocalWindow(0.3), options, text);
        expect_chunks_agree<Eigen::half>(LocalWindow(0.3), options, text);
    }
}

TEST(Full, NeverCompresses) {
    const Text text = Text::random(250);
    ModelCache model(text, text.tokens + 1, [](naive::Cache&, const auto&) { FAIL() << "the model is never full"; });
    expect_as_model(Full{}, cache_options(text, 0, 0, 0), text, model);
    expect_chunks_agree<float>(Full{}, cache_options(text, 0, 0, 0), text);
}

// ---------------------------------------------------------------------------------------------------
// A policy that fails.

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
