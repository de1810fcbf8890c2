// SPDX-License-Identifier: MIT
#include "llama/training/training_pass_maker.hpp"

#include <stdexcept>
#include <string>

#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/training/policy_attention.hpp"
#include "llama/training/training_pass.hpp"
#include "llama/training/unscaled_low_pass.hpp"

namespace llama {

namespace {

MakeAttention attention_of(PolicyName name, double ratio) {
    switch (name) {
        case PolicyName::low_pass:
            return attention_under(freqkv::LowPass<>(ratio));
        case PolicyName::local_window:
            return attention_under(freqkv::LocalWindow(ratio));
        case PolicyName::full:
            return attention_under(freqkv::Full{});
        case PolicyName::low_pass_unscaled:
            return attention_under(UnscaledLowPass(ratio));
        case PolicyName::snap_kv:
        case PolicyName::tova:
        case PolicyName::heavy_hitters:
        case PolicyName::key_diff:
        case PolicyName::key_norm:
        case PolicyName::value_norm:
        case PolicyName::block_mean:
        case PolicyName::merge:
        case PolicyName::snap_kv_and_low_pass:
        case PolicyName::heavy_hitters_and_low_pass:
        case PolicyName::residual_and_low_pass:
        case PolicyName::tiers:
        case PolicyName::equal_weight:
            break;
    }
    throw std::invalid_argument(std::string("nothing is trained through the policy ") + to_string(name));
}

}  // namespace

std::function<std::unique_ptr<TrainingPass>()> training_pass_maker(const TrainableLlama& model,
                                                                   const CacheSettings& settings, Index length,
                                                                   bool recompute) {
    const MakeAttention make_attention = attention_of(settings.policy, settings.ratio);
    return [&model, sizes = settings.sizes, make_attention, length, recompute] {
        return std::make_unique<TrainingPass>(model, sizes, make_attention, length, recompute);
    };
}

}  // namespace llama
