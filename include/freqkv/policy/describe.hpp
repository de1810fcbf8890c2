// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <string>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/policy.hpp"
#include "freqkv/policy/binary_tiers.hpp"
#include "freqkv/policy/block_mean.hpp"
#include "freqkv/policy/equal_weight.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/heavy_hitters.hpp"
#include "freqkv/policy/keep_some.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/merge.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/policy/residual_energy.hpp"
#include "freqkv/policy/select_highest.hpp"
#include "freqkv/policy/whole_span.hpp"
#include "freqkv/policy/window_attention.hpp"

// Policies in words, by which snapshots tell one from another: describe() of each part names it and its parameters. A
// part of one's own gets a function of this name in its own namespace. A DCT's backend is not named, for it changes
// rounding alone.
namespace freqkv {

namespace detail {

// All digits that tell one double from another.
inline std::string shortest(double x) {
    std::array<char, 32> text{};
    return {text.data(), std::to_chars(text.data(), text.data() + text.size(), x).ptr};
}

}  // namespace detail

// Schedules.
inline std::string describe(const WholeSpan& schedule) { return "whole span " + detail::shortest(schedule.ratio); }
inline std::string describe(const EqualWeight& schedule) { return "equal weight " + detail::shortest(schedule.ratio); }
inline std::string describe(const BinaryTiers& schedule) {
    return "binary tiers " + std::to_string(schedule.tiers) + " of " + std::to_string(schedule.block);
}

// Scores.
inline std::string describe(const AccumulatedAttention& score) {
    return std::string(score.mean ? "mean" : "sum") + " of attention, decay " + detail::shortest(score.decay);
}
template <Index Window>
std::string describe(const WindowAttention<Window>& score) {
    return "attention of the latest " + std::to_string(score.latest) + " of " + std::to_string(Window) +
           ", pooled by " + std::to_string(score.pool) +
           (score.pooling == Pooling::maximum ? " to the maximum" : " to the mean") + ", scale " +
           detail::shortest(score.scale);
}
inline std::string describe(const KeyDifference& /*score*/) { return "key difference"; }
inline std::string describe(const ShortKeys& /*score*/) { return "short keys"; }
inline std::string describe(const LongValues& /*score*/) { return "long values"; }
inline std::string describe(const ResidualEnergy& /*score*/) { return "residual energy"; }

// Codecs.
template <class Backend>
std::string describe(const FrequencyCodec<Backend>& /*codec*/) {
    return "low frequencies";
}
inline std::string describe(const BlockMeanCodec& /*codec*/) { return "block means"; }
inline std::string describe(const SelectLatest& /*codec*/) { return "latest"; }
inline std::string describe(const MergeSimilar& codec) { return "merge within " + std::to_string(codec.reach); }
template <class Score>
std::string describe(const SelectHighest<Score>& codec) {
    return "highest by " + describe(codec.score);
}
template <class Score, class Transform>
std::string describe(const KeepSome<Score, Transform>& codec) {
    return detail::shortest(codec.share) + " " + describe(codec.selection) + ", the others by " +
           describe(codec.transform);
}

namespace detail {

// Here, so that parts of one's own are found by their namespace.
template <class Part>
concept Described = requires(const Part& part) {
    { describe(part) } -> std::convertible_to<std::string>;
};

template <class P>
std::string describe_policy(const P& policy) {
    if constexpr (GrowingPolicy<P>) {
        return "full";
    } else {
        static_assert(Described<ScheduleOf<P>> && Described<CodecOf<P>>,
                      "freqkv: a snapshot names the policy; give its schedule and codec a `std::string describe(const "
                      "Part&)` in their namespace (see policy/describe.hpp)");
        std::string text = describe(policy.schedule) + ": " + describe(policy.codec);
        if constexpr (requires { P::allocation; }) {
            static_assert(Described<std::remove_cvref_t<decltype(P::allocation)>>,
                          "freqkv: a snapshot names the policy; give its allocation a `std::string describe(const "
                          "Allocation&)` in its namespace (see policy/describe.hpp)");
            text += ", shared out by " + describe(policy.allocation);
        }
        return text;
    }
}

}  // namespace detail

}  // namespace freqkv
