// SPDX-License-Identifier: MIT
#include "llama/evaluation/synthetic_tasks.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "llama/evaluation/task_samples.hpp"
#include "llama/io/usage_error.hpp"
#include "llama/model/random.hpp"

namespace llama {

namespace {

[[noreturn]] void refuse_sample(SyntheticTask task, const std::string& why) {
    throw UsageError(to_string(task) + (": " + why));
}

GrowingSample growing_sample(SyntheticTask task, const SampleSize& size, double depth, std::string_view haystack,
                             Random& random) {
    switch (task) {
        case SyntheticTask::passkey:
            return passkey_sample(size, depth, random);
        case SyntheticTask::needle:
            return needle_sample(size, haystack, depth, random);
        case SyntheticTask::niah_single_1:
            return niah_single_1_sample(size, depth, random);
        case SyntheticTask::niah_multikey_2:
            return niah_multikey_2_sample(size, depth, random);
        case SyntheticTask::niah_multikey_3:
            return niah_multikey_3_sample(size, depth, random);
        case SyntheticTask::vt:
            return vt_sample(size, random);
        case SyntheticTask::cwe:
            return cwe_sample(size, random);
        case SyntheticTask::fwe:
            return fwe_sample(size, random);
    }
    throw UsageError("there is no such synthetic task");
}

}  // namespace

Fit fit_context(const GrowingSample& sample, Index limit, const TokenCount& count) {
    const auto tokens_of = [&](Index units) { return count(sample.context(units)); };
    Fit best{sample.least_units, tokens_of(sample.least_units)};
    if (best.tokens > limit) return best;

    // Along the line through the last two that were counted, at first through nothing, which is too steep: so much is
    // no haystack. Where the line misleads, by halves.
    Index above = sample.most_units + 1;
    Fit step{best.units, std::max(best.tokens, Index{1})};
    for (int counts = 1; best.units + 1 < above; ++counts) {
        const bool halve = counts > 6 && above <= sample.most_units;
        const Index guess = halve ? best.units + (above - best.units) / 2
                                  : best.units + (limit - best.tokens) * step.units / step.tokens;
        const Index units = std::clamp(guess, best.units + 1, above - 1);
        const Index tokens = tokens_of(units);
        if (tokens > best.tokens) step = {units - best.units, tokens - best.tokens};
        if (tokens <= limit) {
            best = {units, tokens};
        } else {
            above = units;
        }
    }
    return best;
}

Sample make_sample(SyntheticTask task, const SampleSize& size, std::uint64_t seed, std::optional<double> depth,
                   std::string_view haystack) {
    const SyntheticTraits traits = traits_of(task);
    if (depth && !traits.has_depth) refuse_sample(task, "what is asked for has no depth, it stands in many places");
    if (depth && !(*depth >= 0 && *depth <= 1)) refuse_sample(task, "the depth must be 0 to 1");
    if (!haystack.empty() && !traits.needs_haystack) refuse_sample(task, "the task takes no text");
    if (haystack.empty() && traits.needs_haystack) refuse_sample(task, "the task needs a text");

    // Another task draws other numbers.
    Random random(Random(seed).next() + static_cast<std::uint64_t>(task));
    Sample sample;
    if (traits.has_depth) {
        const double drawn = random.uniform();
        sample.depth = depth.value_or(drawn);
    }
    GrowingSample growing = growing_sample(task, size, sample.depth, haystack, random);
    const Question& question = growing.question;
    const Index behind = size.count(question.text) + size.count(question.answer_prefix) + question.most_tokens;
    const Fit fit = fit_context(growing, size.tokens - behind, size.count);
    const Index tokens = fit.tokens + behind;
    if (tokens > size.tokens) {
        refuse_sample(task, "no sample has only " + std::to_string(size.tokens) + " tokens; the smallest has " +
                                std::to_string(tokens));
    }
    if (fit.units == growing.most_units) {
        refuse_sample(task, "all there is to read makes a sample of " + std::to_string(tokens) + " tokens, not " +
                                std::to_string(size.tokens));
    }
    sample.context = growing.context(fit.units);
    sample.questions.push_back(std::move(growing.question));
    return sample;
}

}  // namespace llama
