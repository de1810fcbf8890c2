// SPDX-License-Identifier: MIT
#include <cstddef>
#include <variant>

#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/norms.hpp"

#include "llama/program/host_llama.hpp"

namespace llama {

namespace {

// The policies that choose by keys or values alone are one type here, for a model under each type of cache takes a
// while to compile. A score is asked once for each list and compression.
struct ChosenScore {
    std::variant<freqkv::KeyDifference, freqkv::ShortKeys, freqkv::LongValues> choice;

    template <class T>
    Index scratch_bytes(const freqkv::SpanReader<T>& span) const {
        return std::visit([&](const auto& score) { return score.scratch_bytes(span); }, choice);
    }
    template <class T>
    void score(const freqkv::SpanReader<T>& span, freqkv::Arithmetic<T>* scores, std::byte* scratch) const {
        std::visit([&](const auto& score) { score.score(span, scores, scratch); }, choice);
    }
};

struct ByScore {
    freqkv::WholeSpan schedule;
    freqkv::SelectHighest<ChosenScore> codec;
};

std::unique_ptr<LanguageModel> make_model_by(ChosenScore score, const HostModelParts& parts) {
    return make_host_llama(ByScore{freqkv::WholeSpan{parts.settings.ratio}, {score}}, parts);
}

}  // namespace

std::unique_ptr<LanguageModel> make_key_diff_model(const HostModelParts& parts) {
    return make_model_by({freqkv::KeyDifference{}}, parts);
}
std::unique_ptr<LanguageModel> make_key_norm_model(const HostModelParts& parts) {
    return make_model_by({freqkv::ShortKeys{}}, parts);
}
std::unique_ptr<LanguageModel> make_value_norm_model(const HostModelParts& parts) {
    return make_model_by({freqkv::LongValues{}}, parts);
}

}  // namespace llama
