// SPDX-License-Identifier: MIT
#include "llama/training/training_pass.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "freqkv/error.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "llama/gradient_check.hpp"
#include "llama/model/random.hpp"
#include "llama/model/thread_executor.hpp"
#include "llama/training/batch_gradient.hpp"
#include "llama/training/policy_attention.hpp"
#include "llama/training/trainable_llama.hpp"
#include "llama/training/training_data.hpp"

// The loss and the gradient of a whole model that reads its text through a cache of low frequencies.
namespace llama {
namespace {

using freqkv::LowPass;
using test::infer;
using test::random_text;
using test::randomise;
using test::small_llama;
using testing::ElementsAre;
using testing::SizeIs;
using Pass = TrainingPass;

#if defined(_OPENMP)
const std::vector<int> thread_counts{1, 2, 3};
#else
const std::vector<int> thread_counts{1};
#endif

struct Case {
    std::string name;
    bool biases = false;
    bool shared_classifier = false;
    CacheSizes sizes;
    double ratio = 0.5;
    Index first_target = 1;
    Index compressions = 0;  // of 40 tokens
};

class WholeModel : public testing::TestWithParam<Case> {
protected:
    static Config config() {
        Config config = small_llama();
        config.attention_bias = GetParam().biases;
        config.shared_classifier = GetParam().shared_classifier;
        return config;
    }

    WholeModel() : model_(config(), 1), policy_(GetParam().ratio) { randomise(model_, 2); }

    TrainableLlama model_;
    LowPass<> policy_;
    std::vector<Token> tokens_ = random_text(41, 40, 3);
    Example example_{tokens_, GetParam().first_target};
};

TEST_P(WholeModel, HasTheLossOfInference) {
    const test::Inference inference = infer(model_, GetParam().sizes, policy_, tokens_);
    ASSERT_EQ(inference.compressions, GetParam().compressions);
    const double expected = inference.loss(GetParam().first_target);
    Pass pass(model_, GetParam().sizes, attention_under(policy_), 40);
    const double loss = pass.loss(example_);
    EXPECT_NEAR(loss, expected, 1e-5 * expected);
    std::vector<float> gradient(model_.trained().size());
    EXPECT_NEAR(pass.run(example_, 1, gradient), loss, 1e-6 * loss);
}

TEST_P(WholeModel, HasTheGradientOfItsLoss) {
    test::GradientCheck(model_, GetParam().sizes, policy_, example_).expect_gradient_of_loss();
}

// Not a bit differs from what is kept.
TEST_P(WholeModel, ComputesActivationsAgainWithTheSameResult) {
    Pass keeping(model_, GetParam().sizes, attention_under(policy_), 40);
    Pass recomputing(model_, GetParam().sizes, attention_under(policy_), 40, true);
    std::vector<float> expected(model_.trained().size()), gradient(model_.trained().size());
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(recomputing.run(example_, 0.5f, gradient), keeping.run(example_, 0.5f, expected));
        EXPECT_EQ(recomputing.loss(example_), keeping.loss(example_));
    }
    EXPECT_EQ(gradient, expected);
}

INSTANTIATE_TEST_SUITE_P(LowPass, WholeModel,
                         testing::Values(Case{.name = "Uncompressed", .sizes = {64, 2, 0}},
                                         Case{.name = "CompressedOften", .sizes = {12, 2, 0}, .compressions = 6},
                                         Case{.name = "WithBiasesAndASharedClassifier",
                                              .biases = true,
                                              .shared_classifier = true,
                                              .sizes = {14, 4, 0},
                                              .compressions = 6},
                                         Case{.name = "OfTheLastTargetsAndARecentPart",
                                              .biases = true,
                                              .sizes = {15, 1, 3},
                                              .ratio = 0.3,
                                              .first_target = 31,
                                              .compressions = 4}),
                         [](const auto& named) { return named.param.name; });

// --- which targets and texts count

class SmallModel : public testing::Test {
protected:
    SmallModel() : model_(small_llama(), 1) { randomise(model_, 2); }

    std::vector<float> gradient_of(Pass& pass, const Example& example, float weight = 1) const {
        std::vector<float> gradient(model_.trained().size());
        pass.run(example, weight, gradient);
        return gradient;
    }

    TrainableLlama model_;
    const CacheSizes sizes_{12, 2, 0};
    const LowPass<> policy_{0.5};
};

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, float error) {
    ASSERT_EQ(actual.size(), expected.size());
    const auto magnitude = [](float a, float b) { return std::abs(a) < std::abs(b); };
    const float largest = std::abs(*std::max_element(expected.begin(), expected.end(), magnitude));
    for (std::size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], error * largest) << "number " << i;
    }
}

TEST_F(SmallModel, AddsTheWeightedGradientToWhatIsThere) {
    const std::vector<Token> tokens = random_text(31, 40, 4);
    Pass pass(model_, sizes_, attention_under(policy_), 30);
    std::vector<float> expected = gradient_of(pass, {tokens, 1});
    for (float& number : expected) number = 3 - 0.25f * number;
    std::vector<float> gradient(expected.size(), 3.0f);
    pass.run({tokens, 1}, -0.25f, gradient);
    expect_near(gradient, expected, 1e-6f);
}

TEST_F(SmallModel, CountsEachTargetOnce) {
    const std::vector<Token> tokens = random_text(31, 40, 4);
    Pass pass(model_, sizes_, attention_under(policy_), 30);
    // Of the whole text: targets [1, 20) and [20, 31).
    const double head = pass.loss({std::span(tokens).first(20), 1});
    EXPECT_NEAR(head + pass.loss({tokens, 20}), pass.loss({tokens, 1}), 1e-4);
    std::vector<float> parts = gradient_of(pass, {std::span(tokens).first(20), 1});
    pass.run({tokens, 20}, 1, parts);
    expect_near(parts, gradient_of(pass, {tokens, 1}), 1e-5f);
    EXPECT_NEAR(pass.loss({tokens, 30}), pass.loss({tokens, 29}) - pass.loss({std::span(tokens).first(30), 29}), 1e-5)
        << "the last target alone";
}

// Logits exist for a few tokens at a time.
TEST_F(SmallModel, CountsEachTargetOnceInALargeVocabulary) {
    Config config = small_llama();
    config.vocabulary = 1 << 17;  // 64 tokens at a time
    TrainableLlama model(config, 1);
    randomise(model, 2);
    const std::vector<Token> tokens = random_text(71, config.vocabulary, 5);
    const test::Inference inference = infer(model, sizes_, policy_, tokens);
    Pass pass(model, sizes_, attention_under(policy_), 70);
    std::vector<float> gradient(model.trained().size());
    for (const Index first_target : {1, 63, 64, 65, 66, 70}) {
        const double expected = inference.loss(first_target);
        EXPECT_NEAR(pass.loss({tokens, first_target}), expected, 1e-5 * expected) << first_target;
        EXPECT_NEAR(pass.run({tokens, first_target}, 1, gradient), expected, 1e-5 * expected) << first_target;
    }
}

TEST_F(SmallModel, KeepsNothingOfTheTextBefore) {
    const std::vector<Token> tokens = random_text(31, 40, 4);
    const std::vector<Token> other = random_text(41, 40, 6);
    Pass fresh(model_, sizes_, attention_under(policy_), 40);
    Pass used(model_, sizes_, attention_under(policy_), 40);
    gradient_of(used, {other, 5});
    used.loss({std::span(other).first(2), 1});
    EXPECT_EQ(gradient_of(used, {tokens, 1}), gradient_of(fresh, {tokens, 1}));
}

TEST_F(SmallModel, RefusesTextsOfOtherLengths) {
    const std::vector<Token> tokens = random_text(32, 40, 4);
    Pass pass(model_, sizes_, attention_under(policy_), 30);
    EXPECT_THROW(pass.loss({tokens, 1}), freqkv::Error);
    EXPECT_THROW(pass.loss({std::span(tokens).first(1), 1}), freqkv::Error);
    EXPECT_NO_THROW(pass.loss({std::span(tokens).first(2), 1})) << "one target";
    EXPECT_GT(pass.bytes(), 30 * 24 * 4);
}

// Of each further layer only its input is kept: dim numbers for each token.
TEST_F(SmallModel, TakesLittleMemoryForFurtherLayersIfItRecomputes) {
    const auto bytes = [&](Index layers, bool recompute) {
        Config config = small_llama();
        config.layers = layers;
        const TrainableLlama model(config, 1);
        Pass pass(model, sizes_, attention_under(policy_), 40, recompute);
        const std::vector<Token> tokens = random_text(41, 40, 4);
        std::vector<float> gradient(model.trained().size());
        pass.run({tokens, 1}, 1, gradient);
        return pass.bytes();
    };
    EXPECT_EQ(bytes(12, true) - bytes(2, true), 10 * 40 * 24 * 4);
    EXPECT_GT(bytes(12, false) - bytes(2, false), 10 * 40 * (2 * 24 + 3 * 32 + 2 * 20) * 4);
}

// --- low-rank adaptation

bool is_factor(const TrainableTensor& tensor) { return tensor.name.find(".lora_") != std::string::npos; }

const TrainableTensor& find(const TrainableLlama& model, const std::string& name) {
    const auto found = std::find_if(model.tensors().begin(), model.tensors().end(),
                                    [&](const TrainableTensor& tensor) { return tensor.name == name; });
    if (found == model.tensors().end()) throw std::runtime_error(name + " is not trained");
    return *found;
}

class LowRank : public testing::Test {
protected:
    static Config config() {
        Config config = small_llama();
        config.attention_bias = true;
        return config;
    }

    LowRank() : whole_(config(), 1) {
        randomise(whole_, 2);
        adapted_ = std::make_unique<TrainableLlama>(whole_.checkpoint(), LoraOptions{4, 6}, 3);
    }

    TrainableLlama whole_;
    std::unique_ptr<TrainableLlama> adapted_;
    const CacheSizes sizes_{12, 2, 0};
    const LowPass<> policy_{0.5};
    std::vector<Token> tokens_ = random_text(41, 40, 3);
    Example example_{tokens_, 1};
};

TEST_F(LowRank, BeginsAsTheModel) {
    EXPECT_EQ(Pass(*adapted_, sizes_, attention_under(policy_), 40).loss(example_),
              Pass(whole_, sizes_, attention_under(policy_), 40).loss(example_));
}

TEST_F(LowRank, TrainsEmbeddingNormsAndFactorsOnly) {
    int factors = 0;
    for (const TrainableTensor& tensor : adapted_->tensors()) {
        factors += is_factor(tensor) ? 1 : 0;
        EXPECT_TRUE(is_factor(tensor) || tensor.name.ends_with("norm.weight") ||
                    tensor.name == "model.embed_tokens.weight")
            << tensor.name;
    }
    EXPECT_EQ(factors, 2 * 4 * 2) << "A and B of q, k, v and o in two layers";
    EXPECT_EQ(adapted_->tensors().size(), 6u + 16u);
    const LayerWeights& layer = adapted_->checkpoint().layers[1];
    for (const Weights& frozen : {layer.wq, layer.gate, layer.up, layer.down, adapted_->checkpoint().classifier}) {
        EXPECT_EQ(adapted_->position(frozen.data), TrainableLlama::frozen);
    }
    EXPECT_EQ(adapted_->position(layer.q_bias), TrainableLlama::frozen);
}

// What both train has the same gradient, and the factors' follows from that of the whole matrix by the chain rule.
TEST_F(LowRank, HasTheGradientsOfTheWholeModel) {
    std::vector<float> whole(whole_.trained().size()), adapted(adapted_->trained().size());
    Pass(whole_, sizes_, attention_under(policy_), 40).run(example_, 1, whole);
    Pass(*adapted_, sizes_, attention_under(policy_), 40).run(example_, 1, adapted);
    for (const TrainableTensor& tensor : adapted_->tensors()) {
        SCOPED_TRACE(tensor.name);
        const auto actual = adapted.begin() + tensor.first;
        if (!is_factor(tensor)) {
            const auto expected = whole.begin() + find(whole_, tensor.name).first;
            EXPECT_TRUE(std::equal(actual, actual + tensor.size, expected));
            continue;
        }
        if (tensor.name.ends_with("lora_A.weight")) {  // times B, which is zero
            EXPECT_TRUE(std::all_of(actual, actual + tensor.size, [](float number) { return number == 0; }));
            continue;
        }
        const std::string module = tensor.name.substr(0, tensor.name.find(".lora_"));
        const TrainableTensor& a = find(*adapted_, module + ".lora_A.weight");
        const TrainableTensor& w = find(whole_, module + ".weight");
        using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
        using Map = Eigen::Map<const Matrix>;
        const Map d_w(whole.data() + w.first, w.shape[0], w.shape[1]);
        const Map factor(adapted_->trained().data() + a.first, 4, a.shape[1]);
        const Matrix expected = 6.0f / 4 * d_w * factor.transpose();
        expect_near({actual, actual + tensor.size}, {expected.data(), expected.data() + expected.size()}, 1e-5f);
    }
}

TEST_F(LowRank, HasTheGradientOfItsLoss) {
    randomise(*adapted_, 7);
    test::GradientCheck(*adapted_, sizes_, policy_, example_).expect_gradient_of_loss();
}

TEST_F(LowRank, TrainsThePartsThatAreChosen) {
    const auto model_of = [&](const std::vector<std::string>& parts, bool low_rank) {
        const std::optional<LoraOptions> lora = low_rank ? std::optional(LoraOptions{4, 6}) : std::nullopt;
        auto model = std::make_unique<TrainableLlama>(whole_.checkpoint(), lora, 3, TrainedParts(parts));
        randomise(*model, 7);
        test::GradientCheck(*model, sizes_, policy_, example_).expect_gradient_of_loss();
        std::set<std::string> modules;
        for (const TrainableTensor& tensor : model->tensors()) {
            EXPECT_EQ(is_factor(tensor), low_rank && tensor.name.find("_proj.") != std::string::npos) << tensor.name;
            if (tensor.name.find("layers.0.") == std::string::npos) modules.insert(tensor.name);
        }
        return modules;
    };
    const std::string mlp = "model.layers.1.mlp.";
    EXPECT_THAT(model_of({"gate", "down", "classifier"}, true),
                ElementsAre("lm_head.weight", mlp + "down_proj.lora_A.weight", mlp + "down_proj.lora_B.weight",
                            mlp + "gate_proj.lora_A.weight", mlp + "gate_proj.lora_B.weight"));
    EXPECT_THAT(model_of({"up", "q"}, true), SizeIs(4));
    EXPECT_THAT(model_of({"up"}, false), ElementsAre(mlp + "up_proj.weight"));
    EXPECT_THAT(model_of({"v", "norms"}, false),
                ElementsAre("model.layers.1.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight",
                            "model.layers.1.self_attn.v_proj.bias", "model.layers.1.self_attn.v_proj.weight",
                            "model.norm.weight"));
}

// --- batches

// Texts of several lengths, of which some count in part.
class Texts final : public TrainingData {
public:
    Texts() {
        for (const Index size : {25, 2, 17, 40, 3, 25, 25, 11}) {
            const auto seed = static_cast<std::uint64_t>(texts_.size());
            texts_.push_back(random_text(size, 40, 100 + seed));
        }
    }

    Example example(Index i) const override {
        const std::vector<Token>& text = texts_[static_cast<std::size_t>(i % examples_per_epoch())];
        return {text, i % 3 == 0 ? static_cast<Index>(text.size()) / 2 : 1};
    }
    Index examples_per_epoch() const override { return static_cast<Index>(texts_.size()); }
    std::uint64_t fingerprint() const override { return 0; }

private:
    std::vector<std::vector<Token>> texts_;
};

class Batch : public SmallModel {
protected:
    std::unique_ptr<Pass> make_pass() const {
        return std::make_unique<Pass>(model_, sizes_, attention_under(policy_), 40);
    }

    BatchGradient make(Index batch, int threads) const {
        return {static_cast<Index>(model_.trained().size()), batch, 40, threads, [&] { return make_pass(); }};
    }

    const Texts texts_;
};

TEST_F(Batch, HasTheGradientOfTheMeanLossOfItsTargets) {
    for (const Index batch : {1, 3, 8, 19}) {  // of 19, two texts share a gradient
        SCOPED_TRACE(batch);
        constexpr Index first = 5;
        const auto pass = make_pass();
        Index targets = 0, tokens = 0;
        for (Index i = first; i < first + batch; ++i) {
            targets += texts_.example(i).targets();
            tokens += static_cast<Index>(texts_.example(i).tokens.size()) - 1;
        }
        double loss = 0;
        std::vector<float> expected(model_.trained().size());
        for (Index i = first; i < first + batch; ++i) {
            loss += pass->run(texts_.example(i), 1 / static_cast<float>(targets), expected);
        }
        BatchGradient gradient = make(batch, 1);
        EXPECT_NEAR(gradient.run(texts_, first, freqkv::SerialExecutor{}), loss / static_cast<double>(targets), 1e-12);
        EXPECT_EQ(gradient.tokens(), tokens);
        expect_near({gradient.gradient().begin(), gradient.gradient().end()}, expected, 1e-5f);
        double squares = 0;
        for (const float number : expected) squares += static_cast<double>(number) * static_cast<double>(number);
        EXPECT_NEAR(gradient.norm(), std::sqrt(squares), 1e-5 * std::sqrt(squares));
        // Of the same texts again, after others.
        const std::vector<float> once(gradient.gradient().begin(), gradient.gradient().end());
        gradient.run(texts_, 0, freqkv::SerialExecutor{});
        gradient.run(texts_, first, freqkv::SerialExecutor{});
        EXPECT_TRUE(std::equal(once.begin(), once.end(), gradient.gradient().begin()));
    }
}

TEST_F(Batch, DoesNotDependOnThreads) {
    for (const Index batch : {1, 7, 19}) {
        double loss = 0, evaluated = 0;
        std::vector<float> numbers;
        for (const int threads : thread_counts) {
            SCOPED_TRACE(testing::Message() << batch << " texts, " << threads << " threads");
            const ThreadExecutor executor = make_executor(threads);
            BatchGradient gradient = make(batch, threads);
            const double own_loss = gradient.run(texts_, 2, executor);
            const double own_evaluated = gradient.evaluate(texts_, 5, executor);
            if (numbers.empty()) {
                loss = own_loss;
                evaluated = own_evaluated;
                numbers.assign(gradient.gradient().begin(), gradient.gradient().end());
            }
            EXPECT_EQ(own_loss, loss);
            EXPECT_EQ(own_evaluated, evaluated);
            EXPECT_TRUE(std::equal(numbers.begin(), numbers.end(), gradient.gradient().begin()));
        }
    }
}

TEST_F(Batch, MeasuresTheMeanLossOfTheFirstTexts) {
    const auto pass = make_pass();
    double loss = 0;
    Index targets = 0;
    for (Index i = 0; i < 5; ++i) {
        loss += pass->loss(texts_.example(i));
        targets += texts_.example(i).targets();
    }
    EXPECT_DOUBLE_EQ(make(2, 1).evaluate(texts_, 5, freqkv::SerialExecutor{}), loss / static_cast<double>(targets));
}

}  // namespace
}  // namespace llama
