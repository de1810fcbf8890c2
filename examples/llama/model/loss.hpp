// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "freqkv/executor.hpp"
#include "llama/model/config.hpp"
#include "llama/model/matrix_product.hpp"

namespace llama {

/// Negative log-likelihood, in nats, of `target` under softmax(logits). The exponentials are summed in
/// float by blocks and in double across them.
double negative_log_likelihood(std::span<const float> logits, Token target);

/// Feeds `tokens` to a model, `chunk` at a time, and appends to `losses` those of tokens[1..]; the first ones may
/// be there already, of an earlier run, and are not computed again. Logits exist for a few tokens at a time only.
/// `after_chunk(fed)` is called with the number of tokens fed so far and stops the work by returning false, which
/// is then returned. Losses are computed on the executor's threads. Throws std::runtime_error if one is not finite.
template <class Model, class F, freqkv::Executor E = freqkv::SerialExecutor>
bool append_losses(Model& model, std::span<const Token> tokens, Index chunk, std::vector<double>& losses,
                   F&& after_chunk, const E& executor = {}) {
    constexpr Index rows_at_once = 32;
    const auto count = static_cast<Index>(tokens.size());
    const Index vocabulary = model.config().vocabulary;
    for (Index begin = 0; begin < count;) {
        const Index fed = std::min(chunk, count - begin);
        model.forward(tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(fed)));
        const Index scored = std::min(fed, count - 1 - begin);
        for (Index first = std::max<Index>(0, static_cast<Index>(losses.size()) - begin); first < scored;) {
            const Index rows = std::min(rows_at_once, scored - first);
            const std::span<const float> logits = model.logits(first, rows);
            const std::size_t known = losses.size();
            losses.resize(known + static_cast<std::size_t>(rows));
            const auto score = [&](Index r, Index) {
                const auto row = static_cast<std::size_t>(r);
                const auto target = static_cast<std::size_t>(begin + first + r + 1);
                const auto width = static_cast<std::size_t>(vocabulary);
                losses[known + row] = negative_log_likelihood(logits.subspan(row * width, width), tokens[target]);
            };
            share_exponentials(executor, rows, vocabulary, score);
            for (std::size_t i = known; i < losses.size(); ++i) {
                if (!std::isfinite(losses[i])) throw std::runtime_error("the model's output is not finite");
            }
            first += rows;
        }
        begin += fed;
        if (!after_chunk(begin)) return false;
    }
    return true;
}

}  // namespace llama
