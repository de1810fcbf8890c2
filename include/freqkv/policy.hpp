// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <span>

#include "freqkv/detail/policy/key_matching.hpp"
#include "freqkv/detail/policy/window_scores.hpp"
#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/report.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv {

/// One head that is about to be compressed, as an allocation sees it.
template <class T>
struct DueHead {
    SpanReader<T> entries;  ///< its whole list
    SpanList* spans;        ///< the schedule's plan; an allocation may change each keep within 1 … length - 1
};

/// Shares out what the heads of a layer keep (head budgets), before any of them is compressed: called
/// with the heads that are full at this moment, in order. May throw; then nothing is compressed.
template <class A, class T>
concept Allocation = std::copyable<A> &&
                     requires(const A& allocation, std::span<const DueHead<T>> heads) { allocation.allocate(heads); };

namespace detail {

// The parts of a policy, which may be members or constants.
template <class P>
using ScheduleOf = std::remove_cvref_t<decltype(P::schedule)>;
template <class P>
using CodecOf = std::remove_cvref_t<decltype(P::codec)>;

// `allocation` and `kept` are optional; where they are there, they have to be of the right form, since
// otherwise they would silently do nothing.
template <class P, class T>
concept AllocationFits =
    !requires { P::allocation; } || requires { requires Allocation<std::remove_cvref_t<decltype(P::allocation)>, T>; };

template <class Codec, class T>
concept NamesKept = requires { &Codec::kept; } || requires { &Codec::template kept<T>; };

template <class Codec, class T>
concept KeptFits = !NamesKept<Codec, T> || requires(const Codec& codec, const SpanReader<T>& span, Index keep) {
    { codec.kept(span, keep) } -> std::convertible_to<Index>;
};

// How many of the kinds that exclude each other a codec is of; a hybrid is of two, or a transform alone.
template <class Codec, class T>
constexpr int codec_kinds =
    int{SelectionCodec<Codec, T>} + int{TransformCodec<Codec, Arithmetic<T>>} + int{MergeCodec<Codec, T>};

}  // namespace detail

/// A policy that bounds the cache: a value with a member `schedule`, a member `codec` of one of the four
/// kinds, and optionally a member `allocation`. See docs/policies.md for how to write one.
template <class P, class T>
concept BoundedPolicy = std::copyable<P> && !GrowingPolicy<P> && requires {
    requires Schedule<detail::ScheduleOf<P>>;
    requires detail::codec_kinds<detail::CodecOf<P>, T> == 1 || HybridCodec<detail::CodecOf<P>, T>;
    requires !(MergeCodec<detail::CodecOf<P>, T> && HybridCodec<detail::CodecOf<P>, T>);
    requires detail::KeptFits<detail::CodecOf<P>, T>;
    requires !(HybridCodec<detail::CodecOf<P>, T> && detail::NamesKept<detail::CodecOf<P>, T>);
    requires detail::AllocationFits<P, T>;
};

/// Any policy for caches of element type T.
template <class P, class T>
concept Policy = GrowingPolicy<P> || BoundedPolicy<P, T>;

namespace detail {

// Names the first thing that a type lacks to be a policy; instantiated where a policy is used, so that
// the message of the compiler is a sentence instead of a tree of failed requirements.
template <class P, class T>
consteval bool check_policy() {
    static_assert(std::copyable<P>, "freqkv: a policy must be a copyable value type");
    if constexpr (!GrowingPolicy<P>) {
        constexpr bool has_schedule = requires(const P& policy) { policy.schedule; };
        constexpr bool has_codec = requires(const P& policy) { policy.codec; };
        static_assert(has_schedule, "freqkv: a policy needs a member `schedule` (see policy/whole_span.hpp)");
        static_assert(has_codec, "freqkv: a policy needs a member `codec` (see policy/low_pass.hpp)");
        if constexpr (has_schedule && has_codec) {
            using K = CodecOf<P>;
            static_assert(Schedule<ScheduleOf<P>>,
                          "freqkv: the policy's schedule needs `SpanList plan(const CacheLayout&, Index) const`");
            static_assert(ScratchBytesFits<K, T>,
                          "freqkv: the codec's scratch_bytes must be `template <class T> Index scratch_bytes(const "
                          "SpanReader<T>&, Index keep) const`");
            static_assert(KeptFits<K, T>,
                          "freqkv: the codec's kept must be `template <class T> Index kept(const SpanReader<T>&, "
                          "Index keep) const`");
            static_assert(codec_kinds<K, T> > 0 || !ScratchBytesFits<K, T>,
                          "freqkv: the policy's codec needs either `Index select(const SpanReader<T>&, Index keep, "
                          "Index* chosen, std::byte* scratch) const`, `template <class C> auto plan(Index length, "
                          "Index keep) const` whose result has a noexcept forward(), or `void merge(const "
                          "SpanReader<T>&, Index keep, Index* into, std::byte* scratch) const`");
            static_assert(!MergeCodec<K, T> || codec_kinds<K, T> == 1,
                          "freqkv: the policy's codec has merge(); it must not have select() or plan() as well");
            static_assert(!(SelectionCodec<K, T> && TransformCodec<K, Arithmetic<T>>) || HybridCodec<K, T>,
                          "freqkv: the policy's codec has both select() and plan(); it then needs `Index exact(Index "
                          "length, Index keep) const`, which says how many entries stay as they are");
            static_assert(
                !(HybridCodec<K, T> && NamesKept<K, T>),
                "freqkv: a codec with exact() keeps a number of entries that follows from lengths; it must not "
                "have a kept()");
        }
        static_assert(AllocationFits<P, T>,
                      "freqkv: the policy's allocation needs `void allocate(std::span<const DueHead<T>>) const`");
    }
    return true;
}

}  // namespace detail

}  // namespace freqkv
