// SPDX-License-Identifier: MIT
#include "freqkv/policy.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cstddef>
#include <span>

#include "freqkv/dct/direct.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/merge.hpp"
#include "model_cache.hpp"

// What is a schedule, a codec, an allocation, a policy, and what is none.
namespace freqkv {
namespace {

using testing_model::Of;
using testing_model::OfThree;

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

struct MergeIntoTheFirst {
    template <class T>
    void merge(const SpanReader<T>& span, Index, Index* into, std::byte*) const {
        for (Index i = 0; i < span.size(); ++i) into[i] = 0;
    }
};
struct MergeThatChanges {
    template <class T>
    void merge(const SpanReader<T>&, Index, Index*, std::byte*) {}
};
struct MergeWithStrangeScratch : MergeIntoTheFirst {
    Index scratch_bytes() const { return 64; }
};
static_assert(MergeCodec<MergeSimilar, float> && MergeCodec<MergeSimilar, Eigen::half>);
static_assert(MergeCodec<MergeIntoTheFirst, float> && MergeCodec<MergeIntoTheFirst, double>);
static_assert(!MergeCodec<MergeThatChanges, float>);
static_assert(!MergeCodec<MergeWithStrangeScratch, float>, "not silently without scratch");
static_assert(!MergeCodec<SelectLatest, float> && !MergeCodec<FrequencyCodec<>, float>);
static_assert(!SelectionCodec<MergeSimilar, float> && !TransformCodec<MergeSimilar, float>);

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
struct MergeAndTransform : MergeIntoTheFirst, FrequencyCodec<> {};
struct MergeAndHybrid : MergeIntoTheFirst, SelectLatest, FrequencyCodec<> {
    Index exact(Index, Index) const { return 0; }
};
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
static_assert(BoundedPolicy<Merge, float> && BoundedPolicy<Of<WholeSpan, MergeIntoTheFirst>, Eigen::bfloat16>);
static_assert(!BoundedPolicy<Of<WholeSpan, MergeAndTransform>, float>);
static_assert(!BoundedPolicy<Of<WholeSpan, MergeAndHybrid>, float>);
static_assert(!BoundedPolicy<Of<WholeSpan, TransformWithStrangeKept>, float>, "not silently keeping all");
static_assert(!BoundedPolicy<Of<ScheduleThatStays, SelectLatest>, float>);
static_assert(!BoundedPolicy<Full, float>);
static_assert(Policy<Full, float> && Policy<LowPass<>, float> && Policy<LocalWindow, float>);
static_assert(!Policy<WholeSpan, float> && !Policy<SelectLatest, float> && !Policy<NotUnbounded, float>);

static_assert(detail::check_policy<Constant, float>());
static_assert(detail::check_policy<LowPass<>, Eigen::half>() && detail::check_policy<Full, float>());

}  // namespace
}  // namespace freqkv
