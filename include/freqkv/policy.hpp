// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <span>

#include "freqkv/policy/codec.hpp"
#include "freqkv/policy/report.hpp"
#include "freqkv/policy/schedule.hpp"

namespace freqkv {

/// One head that is about to be squeezed, as an allocation sees it.
template <class T>
struct DueHead {
    SpanReader<T> entries;  ///< its whole list
    SpanList* spans;        ///< the schedule's plan; an allocation may change each keep within 1 … length - 1
};

/// Shares out what the heads of a layer keep (head budgets), before any of them is squeezed: called
/// with the heads that are full at this moment, in order. May throw; then nothing is compressed.
template <class A, class T>
concept Allocation = std::copyable<A> &&
                     requires(const A& allocation, std::span<const DueHead<T>> heads) { allocation.allocate(heads); };

/// A policy under which the cache grows and nothing is compressed (Full).
template <class P>
concept GrowingPolicy = std::copyable<P> && requires { requires P::grows; };

/// A policy that bounds the cache: a value with a member `schedule`, a member `codec` of one of the two
/// kinds, and optionally a member `allocation`. See docs/policies.md for how to write one.
template <class P, class T>
concept BoundedPolicy = std::copyable<P> && !GrowingPolicy<P> && requires(const P& policy) {
    requires Schedule<std::remove_cvref_t<decltype(policy.schedule)>>;
    requires SelectionCodec<std::remove_cvref_t<decltype(policy.codec)>, T> ||
                 TransformCodec<std::remove_cvref_t<decltype(policy.codec)>, Arithmetic<T>>;
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
            using S = decltype(P::schedule);
            using K = decltype(P::codec);
            static_assert(Schedule<S>,
                          "freqkv: the policy's schedule needs `SpanList plan(const CacheLayout&, Index) const`");
            static_assert(SelectionCodec<K, T> || TransformCodec<K, Arithmetic<T>>,
                          "freqkv: the policy's codec needs either `Index select(const SpanReader<T>&, Index keep, "
                          "Index* chosen, std::byte* scratch) const` or `template <class C> auto plan(Index length, "
                          "Index keep) const` whose result has a noexcept forward()");
            static_assert(!(SelectionCodec<K, T> && TransformCodec<K, Arithmetic<T>>),
                          "freqkv: the policy's codec has both select() and plan(); it must be of one kind");
        }
        if constexpr (requires(const P& policy) { policy.allocation; }) {
            static_assert(Allocation<decltype(P::allocation), T>,
                          "freqkv: the policy's allocation needs `void allocate(std::span<const DueHead<T>>) const`");
        }
    }
    return true;
}

}  // namespace detail

}  // namespace freqkv
