// SPDX-License-Identifier: MIT
#include "llama/evaluation/read_and_answer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/evaluation/prompt.hpp"

namespace llama {
namespace {

// A letter is a token.
class LetterTokenizer final : public Tokenizer {
public:
    LetterTokenizer() : Tokenizer(-1, {0}) {
        for (int i = 0; i < 128; ++i) letters_.push_back(static_cast<char>(i));
    }
    Index vocabulary() const override { return 128; }
    std::string_view decode(Token, Token token) const override {
        return std::string_view(letters_).substr(static_cast<std::size_t>(token), 1);
    }

private:
    std::vector<Token> do_encode(std::string_view text, std::span<const TextRange>) const override {
        return {text.begin(), text.end()};
    }
    std::string letters_;
};

// What it says next depends on all it has read.
class SumModel final : public LanguageModel {
public:
    explicit SumModel(bool can_save = true, float sharpness = 10) : can_save_(can_save), sharpness_(sharpness) {
        config_.vocabulary = 128;
    }
    const Config& config() const override { return config_; }
    CacheCounts cache(Index) const override { return {0, 0, 0}; }
    bool cache_grows() const override { return true; }
    Index cache_bytes() const override { return 0; }
    void clear() override { sum_ = 0; }
    std::unique_ptr<TextState> save() const override {
        if (!can_save_) return nullptr;
        auto state = std::make_unique<State>();
        state->sum = sum_;
        return state;
    }
    void restore(const TextState& saved) override { sum_ = dynamic_cast<const State&>(saved).sum; }
    void forward(std::span<const Token> tokens) override {
        sums_.clear();
        for (const Token token : tokens) {
            sum_ = sum_ * 31 + static_cast<unsigned>(token);
            sums_.push_back(sum_);
        }
    }
    std::span<const float> logits(Index first, Index count) override {
        logits_.assign(static_cast<std::size_t>(count) * 128, 0);
        for (Index t = 0; t < count; ++t) {
            logits_[static_cast<std::size_t>(t) * 128 + next(sums_[static_cast<std::size_t>(first + t)])] = sharpness_;
        }
        return logits_;
    }
    std::span<const float> logits() override { return logits(static_cast<Index>(sums_.size()) - 1, 1); }

    static std::size_t next(unsigned sum) { return 97 + sum / 7 % 26; }

private:
    struct State final : TextState {
        unsigned sum = 0;
    };
    bool can_save_;
    float sharpness_;
    Config config_;
    unsigned sum_ = 0;
    std::vector<unsigned> sums_;
    std::vector<float> logits_;
};

const Stopped never = [] { return false; };

Sample three_questions() {
    Sample sample;
    sample.context = "a long text, of which is asked. ";
    for (const char* const text : {"Who?", "When?", "Whose, and why?"}) {
        sample.questions.push_back({text, " It was", {"x"}, 5});
    }
    return sample;
}

TEST(Prompts, QuestionsShareTheLongestCommonBeginning) {
    const LetterTokenizer tokenizer;
    const PromptWriter writer(tokenizer, 128, std::nullopt, Protocol::question_agnostic);
    const Sample sample = three_questions();
    const Prompts prompts = writer.write(sample, "sample");
    EXPECT_EQ(prompts.context.size(), sample.context.size() + 2);  // all begin with Wh
    for (std::size_t q = 0; q < 3; ++q) {
        std::vector<Token> all = prompts.context;
        all.insert(all.end(), prompts.questions[q].begin(), prompts.questions[q].end());
        const std::string text = sample.context + sample.questions[q].text + " It was";
        EXPECT_EQ(all, std::vector<Token>(text.begin(), text.end()));
    }
}

TEST(Prompts, OneQuestionKeepsATokenOfItsOwn) {
    const LetterTokenizer tokenizer;
    const PromptWriter writer(tokenizer, 128, std::nullopt, Protocol::question_agnostic);
    Sample sample;
    sample.context = "abc";
    sample.questions.resize(2);
    const Prompts prompts = writer.write(sample, "sample");
    EXPECT_EQ(prompts.context.size(), 2u);
    EXPECT_EQ(prompts.questions, (std::vector<std::vector<Token>>{{'c'}, {'c'}}));
}

TEST(Prompts, AwareOnesAskBeforeTheContextToo) {
    const LetterTokenizer tokenizer;
    const PromptWriter writer(tokenizer, 128, std::nullopt, Protocol::question_aware);
    Sample sample = three_questions();
    sample.questions.resize(1);
    Prompts prompts = writer.write(sample, "sample");
    prompts.context.push_back(prompts.questions[0][0]);
    EXPECT_EQ(std::string(prompts.context.begin(), prompts.context.end()),
              "Who?\n\na long text, of which is asked. Who? It was");
}

TEST(Answer, EachQuestionIsAnsweredAsIfItWereAlone) {
    const LetterTokenizer tokenizer;
    const PromptWriter writer(tokenizer, 128, std::nullopt, Protocol::question_agnostic);
    const Sample sample = three_questions();
    const std::vector<Index> most{5, 5, 5};
    for (const Index chunk : {1, 7, 1000}) {
        SumModel model;
        const std::vector<std::string> replies =
            answer(model, tokenizer, writer.write(sample, "sample"), most, {}, chunk, never);
        ASSERT_EQ(replies.size(), 3u);
        for (std::size_t q = 0; q < 3; ++q) {
            Sample alone = sample;
            alone.questions = {sample.questions[q]};
            EXPECT_EQ(answer(model, tokenizer, writer.write(alone, "sample"), most, {}, chunk, never),
                      std::vector<std::string>{replies[q]});
            EXPECT_EQ(replies[q].size(), 5u);
        }
        EXPECT_NE(replies[0], replies[1]);
    }
}

TEST(Answer, EndsWithATokenThatEnds) {
    const LetterTokenizer tokenizer;
    const Prompts prompts{{'a'}, {{'b'}}};
    SumModel model;
    const std::vector<Index> most{20};
    const std::string whole = answer(model, tokenizer, prompts, most, {}, 8, never).at(0);
    const std::vector<Token> ends{whole[whole.find_first_not_of(whole[0])]};
    EXPECT_EQ(answer(model, tokenizer, prompts, most, ends, 8, never).at(0),
              whole.substr(0, whole.find(static_cast<char>(ends[0]))));
}

TEST(Answer, SeveralQuestionsNeedAModelThatCanGoBack) {
    const LetterTokenizer tokenizer;
    SumModel model(false);
    const std::vector<Index> most{2, 2};
    EXPECT_EQ(answer(model, tokenizer, {{'a'}, {{'b'}}}, most, {}, 8, never).size(), 1u);
    EXPECT_THROW(answer(model, tokenizer, {{'a'}, {{'b'}, {'c'}}}, most, {}, 8, never), std::runtime_error);
}

TEST(Recall, CountsWhatIsPredicted) {
    Probe probe;
    for (int i = 0; i < 50; ++i) probe.tokens.push_back(static_cast<Token>(97 + i * 11 % 26));
    SumModel model;
    model.forward(std::span(probe.tokens).first(20));
    probe.tokens[20] =
        static_cast<Token>(std::max_element(model.logits().begin(), model.logits().end()) - model.logits().begin());
    probe.targets = {20, 21};
    ASSERT_NE(probe.tokens[21], probe.tokens[20]);
    const double sum = std::log(std::exp(10.0) + 127);
    for (const Index chunk : {1, 20, 21, 1000}) {
        const std::optional<Recall> found = recall(model, probe, chunk, never);
        ASSERT_TRUE(found);
        EXPECT_EQ(found->exact, 0.5);
        EXPECT_NEAR(found->loss, ((sum - 10) + sum) / 2, 1e-5) << chunk;
    }
}

TEST(Compare, IsTheDefinition) {
    std::vector<Token> tokens;
    for (int i = 0; i < 300; ++i) tokens.push_back(static_cast<Token>(97 + i * 7 % 26));
    SumModel sharp(true, 10), blunt(true, 2), same(true, 10);
    for (const Difference& of : compare(sharp, same, tokens, 64, 100, never)) {
        EXPECT_NEAR(of.divergence, 0, 1e-12);
        EXPECT_EQ(of.agreement, 1);
        EXPECT_EQ(of.root_mean_square, 0);
    }
    const std::vector<Difference> differences = compare(blunt, sharp, tokens, 64, 100, never);
    ASSERT_EQ(differences.size(), 3u);
    EXPECT_EQ(differences[2].tokens, 99);
    // One token has e^10 or e^2 times the probability of each of the 127 others.
    const double p = std::exp(10.0) / (std::exp(10.0) + 127), q = std::exp(2.0) / (std::exp(2.0) + 127);
    const double divergence = p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
    for (const Difference& of : differences) {
        EXPECT_NEAR(of.divergence, divergence, 1e-6);
        EXPECT_EQ(of.agreement, 1);
    }
}

}  // namespace
}  // namespace llama
