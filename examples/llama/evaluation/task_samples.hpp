// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "llama/evaluation/sample.hpp"
#include "llama/evaluation/synthetic_tasks.hpp"
#include "llama/model/random.hpp"

// What make_sample() is made of: each task's sample before it is known how long it becomes.
namespace llama {

/// A sample whose context has any number of units from `least_units` to `most_units`.
struct GrowingSample {
    std::function<std::string(Index)> context;  ///< of so many units
    Index least_units = 1;
    Index most_units = 0;
    Question question;
};

struct Fit {
    Index units = 0;
    Index tokens = 0;
};

/// The units with which a context has at most `limit` tokens, while with one more it has not; the fewest units if that
/// is too much already. What it says fits was counted. About six counts, few of them much beyond the limit.
Fit fit_context(const GrowingSample& sample, Index limit, const TokenCount& count);

/// More units than `tokens` tokens can be.
constexpr Index more_units_than(Index tokens) { return 2 * tokens; }

/// Five short sentences that say nothing: the unit of noise.
inline constexpr std::string_view noise_sentences =
    "The lake is calm. The wind is cold. The road is long. Here we walk. Over the hill and home.";

GrowingSample passkey_sample(const SampleSize& size, double depth, Random& random);
GrowingSample needle_sample(const SampleSize& size, std::string_view haystack, double depth, Random& random);
GrowingSample niah_single_1_sample(const SampleSize& size, double depth, Random& random);
GrowingSample niah_multikey_2_sample(const SampleSize& size, double depth, Random& random);
GrowingSample niah_multikey_3_sample(const SampleSize& size, double depth, Random& random);
GrowingSample vt_sample(const SampleSize& size, Random& random);
GrowingSample cwe_sample(const SampleSize& size, Random& random);
GrowingSample fwe_sample(const SampleSize& size, Random& random);

}  // namespace llama
