// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "llama/model/config.hpp"
#include "llama/model/random.hpp"

namespace llama {

/// How the next token is chosen from the logits.
struct SamplerOptions {
    double temperature = 0;  ///< logits are divided by it; 0: always the most likely token
    Index top_k = 0;         ///< only the k most likely tokens; 0: all
    double top_p = 0.9;      ///< only the fewest likely tokens with that much probability; 0 or 1: all
    std::uint64_t seed = 1;
};

/// Draws tokens. Equal options and equal logits give equal tokens. Allocates at construction only.
class Sampler {
public:
    Sampler(const SamplerOptions& options, Index vocabulary) : options_(options), random_(options.seed) {
        if (options.temperature > 0) candidates_.reserve(static_cast<std::size_t>(vocabulary));
    }

    /// logits [vocabulary]. Throws std::runtime_error if one of them is not finite.
    Token operator()(std::span<const float> logits) {
        return options_.temperature == 0 ? most_likely(logits) : draw(logits);
    }

    /// The lowest of the ids with the largest logit.
    static Token most_likely(std::span<const float> logits) {
        check_finite(logits);
        return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }

private:
    struct Candidate {
        Token token;
        float logit;
        double weight;  // exp((logit - largest) / temperature), a probability but for their sum
    };

    // A total order, so that sorting has one outcome.
    static bool more_likely(const Candidate& a, const Candidate& b) {
        return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
    }

    static void check_finite(std::span<const float> logits) {
        float zero = 0;
        for (const float logit : logits) zero += logit - logit;
        if (zero != 0) throw std::runtime_error("the model's output is not finite");
    }

    Token draw(std::span<const float> logits) {
        check_finite(logits);
        candidates_.clear();
        for (std::size_t i = 0; i < logits.size(); ++i) candidates_.push_back({static_cast<Token>(i), logits[i], 0});
        keep_top_k();
        weigh();
        const double total = keep_top_p();
        double remaining = random_.uniform() * total;
        for (const Candidate& candidate : candidates_) {
            remaining -= candidate.weight;
            if (remaining < 0) return candidate.token;
        }
        return candidates_.back().token;  // the sum was rounded down
    }

    void keep_top_k() {
        if (options_.top_k == 0 || options_.top_k >= static_cast<Index>(candidates_.size())) return;
        const auto end = candidates_.begin() + options_.top_k;
        std::nth_element(candidates_.begin(), end - 1, candidates_.end(), more_likely);
        candidates_.erase(end, candidates_.end());
    }

    void weigh() {
        float largest = candidates_.front().logit;
        for (const Candidate& candidate : candidates_) largest = std::max(largest, candidate.logit);
        for (Candidate& candidate : candidates_) {
            const double difference = static_cast<double>(candidate.logit) - static_cast<double>(largest);
            candidate.weight = std::exp(difference / options_.temperature);
        }
    }

    // Returns the sum of the weights that remain.
    double keep_top_p() {
        double total = 0;
        for (const Candidate& candidate : candidates_) total += candidate.weight;
        if (options_.top_p <= 0 || options_.top_p >= 1 || candidates_.size() == 1) return total;
        // All those below the limit together have less than 1 - top_p: none of them can be needed, and
        // dropping them first leaves little to sort.
        const double limit = (1 - options_.top_p) / static_cast<double>(candidates_.size() - 1) * total;
        std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.weight < limit; });
        std::sort(candidates_.begin(), candidates_.end(), more_likely);
        double kept = 0;
        std::size_t count = 0;
        while (count < candidates_.size() && kept < options_.top_p * total) kept += candidates_[count++].weight;
        candidates_.erase(candidates_.begin() + static_cast<std::ptrdiff_t>(count), candidates_.end());
        return kept;
    }

    SamplerOptions options_;
    Random random_;
    std::vector<Candidate> candidates_;
};

}  // namespace llama
