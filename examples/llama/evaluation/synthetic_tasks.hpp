// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "llama/evaluation/sample.hpp"
#include "llama/model/config.hpp"
#include "llama/model/policy_traits.hpp"

// Tasks over long contexts whose samples are made here, from nothing but a seed.
//
// All but the first two are after RULER (Hsieh et al. 2024, arXiv 2404.06654; NVIDIA/RULER, version 1), its tasks that
// need no text: the same structure, numbers, frequencies, examples, depths and lengths of replies. Sentences and lists
// of words are the project's own, so what a model scores is no figure of RULER's.
namespace llama {

enum class SyntheticTask : std::uint8_t {
    passkey,          ///< a number in noise (Mohtashami and Jaggi 2023, arXiv 2305.16300)
    needle,           ///< a sentence in a text of the caller's (Kamradt 2023)
    niah_single_1,    ///< RULER: a key's number in noise
    niah_multikey_2,  ///< RULER: a key's number among those of other keys
    niah_multikey_3,  ///< RULER: the same with UUIDs for keys and values
    vt,               ///< RULER, variable tracking: five variables that are assigned one from the other, in noise
    cwe,              ///< RULER, common words: ten words of a list that stand in it more often than the others
    fwe,              ///< RULER, frequent words: the three most frequent of made-up words under a zeta distribution
};

struct SyntheticTraits {
    const char* name = nullptr;   ///< on the command line and in JSON
    bool has_depth = false;       ///< what is asked for stands in one place of the context
    bool needs_haystack = false;  ///< a text is passed
};

constexpr SyntheticTraits traits_of(SyntheticTask task) {
    switch (task) {
        case SyntheticTask::passkey:
            return {.name = "passkey", .has_depth = true};
        case SyntheticTask::needle:
            return {.name = "needle", .has_depth = true, .needs_haystack = true};
        case SyntheticTask::niah_single_1:
            return {.name = "niah_single_1", .has_depth = true};
        case SyntheticTask::niah_multikey_2:
            return {.name = "niah_multikey_2", .has_depth = true};
        case SyntheticTask::niah_multikey_3:
            return {.name = "niah_multikey_3", .has_depth = true};
        case SyntheticTask::vt:
            return {.name = "vt"};
        case SyntheticTask::cwe:
            return {.name = "cwe"};
        case SyntheticTask::fwe:
            return {.name = "fwe"};
    }
    return {};
}

constexpr const char* to_string(SyntheticTask task) { return traits_of(task).name; }

/// None of another name.
constexpr std::optional<SyntheticTask> find_synthetic_task(std::string_view name) {
    for (const SyntheticTask task : all_of<SyntheticTask>) {
        if (name == to_string(task)) return task;
    }
    return std::nullopt;
}

/// The tokens of a text.
using TokenCount = std::function<Index(std::string_view)>;

struct SampleSize {
    Index tokens = 0;  ///< context, question, answer prefix and reply together at most, each counted by itself
    TokenCount count;
};

/// A sample with the longest haystack that fits: one more of its units (a line of noise, a sentence, an entry of a
/// list) would be too much. The context ends with the end of a line, and context, question and answer prefix stand one
/// behind the other as they are. All answers count: the score is the share of them that is in the reply. The same seed,
/// size and counts of tokens give the same sample on every platform.
///
/// `depth`, 0 to 1, is where the task's one place lies, to within half a unit; without it, it is drawn. `haystack` is
/// read from its beginning and cut at the end of a sentence; a needle's number is none that stands in it.
///
/// Throws UsageError, which names the task, if the smallest sample is larger than `size` (and says how large it is), if
/// the haystack is too short to fill it, or if depth or haystack are passed to a task that has none, or not passed.
Sample make_sample(SyntheticTask task, const SampleSize& size, std::uint64_t seed, std::optional<double> depth = {},
                   std::string_view haystack = {});

}  // namespace llama
