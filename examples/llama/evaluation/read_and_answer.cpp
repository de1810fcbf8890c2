// SPDX-License-Identifier: MIT
#include "llama/evaluation/read_and_answer.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <stdexcept>

#include "llama/model/loss.hpp"

namespace llama {

namespace {

// Logits of so many tokens at once.
constexpr Index logits_at_once = 32;

bool read(LanguageModel& model, std::span<const Token> tokens, Index chunk, const Stopped& stopped) {
    while (!tokens.empty()) {
        if (stopped()) return false;
        const std::size_t count = std::min(static_cast<std::size_t>(chunk), tokens.size());
        model.forward(tokens.first(count));
        tokens = tokens.subspan(count);
    }
    return true;
}

Token likeliest(std::span<const float> logits) {
    for (const float logit : logits) {
        if (!std::isfinite(logit)) throw std::runtime_error("the model's output is not finite");
    }
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// The model has read the question, whose last token is `previous`.
std::string reply(LanguageModel& model, const Tokenizer& tokenizer, Token previous, Index most,
                  std::span<const Token> ends, const Stopped& stopped) {
    std::string text;
    for (Index written = 0; written < most && !stopped(); ++written) {
        const Token token = likeliest(model.logits());
        if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
        text += tokenizer.decode(previous, token);
        previous = token;
        if (written + 1 < most) model.forward({&token, 1});
    }
    return text;
}

// Log of the sum of the exponentials of `logits`.
double log_sum(std::span<const float> logits) {
    const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
    return largest + std::log(sum);
}

}  // namespace

std::vector<std::string> answer(LanguageModel& model, const Tokenizer& tokenizer, const Prompts& prompts,
                                std::span<const Index> most, std::span<const Token> ends, Index chunk,
                                const Stopped& stopped) {
    std::vector<std::string> replies;
    model.clear();
    if (!read(model, prompts.context, chunk, stopped)) return replies;
    std::unique_ptr<TextState> context;
    if (prompts.questions.size() > 1) {
        context = model.save();
        if (!context) throw std::runtime_error("a model on a GPU cannot go back to a text, so it takes one question");
    }
    for (std::size_t q = 0; q < prompts.questions.size(); ++q) {
        if (q > 0) model.restore(*context);
        const std::vector<Token>& question = prompts.questions[q];
        if (!read(model, question, chunk, stopped)) break;
        std::string text = reply(model, tokenizer, question.back(), most[q], ends, stopped);
        if (stopped()) break;
        replies.push_back(std::move(text));
    }
    return replies;
}

std::optional<Recall> recall(LanguageModel& model, const Probe& probe, Index chunk, const Stopped& stopped) {
    Recall result;
    model.clear();
    const auto count = static_cast<Index>(probe.tokens.size());
    const auto width = static_cast<std::size_t>(model.config().vocabulary);
    const std::span<const Token> tokens(probe.tokens);
    auto target = probe.targets.begin();
    for (Index begin = 0; begin < count && target != probe.targets.end(); begin += chunk) {
        if (stopped()) return std::nullopt;
        const Index end = std::min(begin + chunk, count);
        model.forward(tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
        while (target != probe.targets.end() && *target <= end) {
            // Targets that follow each other are predicted at once: the classifier is read once for all of them.
            const Index first = *target;
            Index rows = 0;
            for (; target != probe.targets.end() && *target == first + rows && *target <= end && rows < logits_at_once;
                 ++target) {
                ++rows;
            }
            const std::span<const float> logits = model.logits(first - 1 - begin, rows);
            for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
                const std::span<const float> row = logits.subspan(r * width, width);
                const Token token = tokens[static_cast<std::size_t>(first) + r];
                result.exact += likeliest(row) == token ? 1 : 0;
                result.loss += negative_log_likelihood(row, token);
            }
        }
    }
    const auto targets = static_cast<double>(probe.targets.size());
    result.loss /= targets;
    result.exact /= targets;
    return result;
}

std::vector<Difference> compare(LanguageModel& model, LanguageModel& other, std::span<const Token> tokens, Index chunk,
                                Index stretch, const Stopped& stopped) {
    std::vector<Difference> differences;
    model.clear();
    other.clear();
    const auto count = static_cast<Index>(tokens.size());
    const auto width = static_cast<std::size_t>(model.config().vocabulary);
    for (Index begin = 0; begin + 1 < count; begin += chunk) {
        if (stopped()) break;
        const Index fed = std::min(chunk, count - begin);
        const auto piece = tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(fed));
        model.forward(piece);
        other.forward(piece);
        const Index scored = std::min(fed, count - 1 - begin);
        for (Index first = 0; first < scored; first += logits_at_once) {
            const Index rows = std::min(logits_at_once, scored - first);
            const std::span<const float> ours = model.logits(first, rows);
            const std::span<const float> theirs = other.logits(first, rows);
            for (Index r = 0; r < rows; ++r) {
                if ((begin + first + r) % stretch == 0) differences.emplace_back();
                Difference& to = differences.back();
                const auto p = theirs.subspan(static_cast<std::size_t>(r) * width, width);
                const auto q = ours.subspan(static_cast<std::size_t>(r) * width, width);
                const double p_sum = log_sum(p), q_sum = log_sum(q);
                for (std::size_t i = 0; i < width; ++i) {
                    const double log_p = static_cast<double>(p[i]) - p_sum;
                    to.divergence += std::exp(log_p) * (log_p - static_cast<double>(q[i]) + q_sum);
                }
                const auto next = static_cast<std::size_t>(tokens[static_cast<std::size_t>(begin + first + r + 1)]);
                const double log_p = static_cast<double>(p[next]) - p_sum;
                const double log_q = static_cast<double>(q[next]) - q_sum;
                const double difference = std::exp(log_q) - std::exp(log_p);
                to.root_mean_square += difference * difference;
                to.agreement += likeliest(p) == likeliest(q) ? 1 : 0;
                to.loss -= log_q;
                to.other_loss -= log_p;
                ++to.tokens;
            }
        }
    }
    for (Difference& of : differences) {
        const auto n = static_cast<double>(of.tokens);
        of.divergence /= n;
        of.agreement /= n;
        of.loss /= n;
        of.other_loss /= n;
        of.root_mean_square = std::sqrt(of.root_mean_square / n);
    }
    return differences;
}

}  // namespace llama
