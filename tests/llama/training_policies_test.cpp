// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <vector>

#include "freqkv/policy/local_window.hpp"
#include "llama/gradient_check.hpp"
#include "llama/training/policy_attention.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_pass.hpp"
#include "llama/training/unscaled_low_pass.hpp"

// What training under the other policies than low frequencies differentiates.
namespace llama {
namespace {

template <class P>
class PolicyInTraining : public testing::Test {};

using Policies = testing::Types<freqkv::LocalWindow, UnscaledLowPass>;
TYPED_TEST_SUITE(PolicyInTraining, Policies);

TYPED_TEST(PolicyInTraining, HasTheLossOfInferenceAndItsGradient) {
    TrainableLlama model(test::small_llama(), 1);
    test::randomise(model, 2);
    const TypeParam policy(0.5);
    const CacheSizes sizes{13, 2, 1};
    const std::vector<Token> tokens = test::random_text(41, 40, 3);
    const Example example{tokens, 1};
    const test::Inference inference = test::infer(model, sizes, policy, tokens);
    ASSERT_EQ(inference.compressions, 6);
    const double expected = inference.loss(example.first_target);
    EXPECT_NEAR(TrainingPass(model, sizes, attention_under(policy), 40).loss(example), expected, 1e-5 * expected);
    test::GradientCheck(model, sizes, policy, example).expect_gradient_of_loss();
}

}  // namespace
}  // namespace llama
