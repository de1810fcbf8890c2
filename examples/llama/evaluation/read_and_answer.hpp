// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "llama/evaluation/probes.hpp"
#include "llama/evaluation/prompt.hpp"
#include "llama/model/language_model.hpp"
#include "llama/tokenizers/tokenizer.hpp"

// What a model makes of a prompt or a probe.
namespace llama {

/// Whether the work is to be left. All below feed `chunk` tokens at a time and ask in between.
using Stopped = std::function<bool()>;

/// The model's likeliest replies to the questions of a sample, each of at most as many tokens as `most` says and
/// without the token that ends it; control characters are as the model writes them. The model forgets what it read
/// before. Fewer replies than questions if it was stopped. Throws std::runtime_error if there are several questions and
/// the model cannot go back to what it read before them.
std::vector<std::string> answer(LanguageModel& model, const Tokenizer& tokenizer, const Prompts& prompts,
                                std::span<const Index> most, std::span<const Token> ends, Index chunk,
                                const Stopped& stopped);

/// How well a model predicts the targets of a probe.
struct Recall {
    double loss = 0;   ///< nats for each target, a mean
    double exact = 0;  ///< part of the targets that were likeliest
};

/// The probe has at least one target; the model forgets what it read before. None if it was stopped. Throws
/// std::runtime_error if a logit is not finite, as do the others.
std::optional<Recall> recall(LanguageModel& model, const Probe& probe, Index chunk, const Stopped& stopped);

/// How far a model's predictions are from those of another that reads the same text.
struct Difference {
    Index tokens = 0;
    double divergence = 0;        ///< of Kullback and Leibler, from the other's to the model's, nats for each token
    double agreement = 0;         ///< part of the tokens for which both find the same likeliest
    double root_mean_square = 0;  ///< of the differences of the probability of the token that comes
    double loss = 0;              ///< the model's, nats for each token
    double other_loss = 0;
};

/// Compares the predictions of tokens[1..], for each stretch of `stretch` of them; `model` and `other` forget what they
/// read before. Fewer stretches if it was stopped.
std::vector<Difference> compare(LanguageModel& model, LanguageModel& other, std::span<const Token> tokens, Index chunk,
                                Index stretch, const Stopped& stopped);

}  // namespace llama
