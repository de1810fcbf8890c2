// SPDX-License-Identifier: MIT
#include "llama/training/training_pass_maker.hpp"

#include "llama/model/with_policy.hpp"
#include "llama/training/policy_attention.hpp"
#include "llama/training/training_pass.hpp"
#include "llama/training/unscaled_low_pass.hpp"

namespace llama {

std::function<std::unique_ptr<TrainingPass>()> training_pass_maker(const TrainableLlama& model,
                                                                   const CacheSettings& settings, Index length,
                                                                   bool recompute) {
    const auto under = [](const auto& policy) { return attention_under(policy); };
    const MakeAttention make_attention = settings.policy == PolicyName::low_pass_unscaled
                                             ? under(UnscaledLowPass(settings.ratio))
                                             : with_policy(settings.policy, settings.ratio, under);
    return [&model, sizes = settings.sizes, make_attention, length, recompute] {
        return std::make_unique<TrainingPass>(model, sizes, make_attention, length, recompute);
    };
}

}  // namespace llama
