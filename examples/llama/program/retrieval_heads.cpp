// SPDX-License-Identifier: MIT
#include "llama/program/retrieval_heads.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>

#include "llama/model/cache_settings.hpp"
#include "llama/model/language_model.hpp"
#include "llama/program/host_models.hpp"
#include "llama/program/reading_progress.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

// Adds up, for each head, the attention that has been given to entry `i` and the next one.
void add_mass(const LanguageModel& model, Index i, double factor, std::vector<double>& sums) {
    std::size_t at = 0;
    for (Index l = 0; l < model.config().layers; ++l) {
        for (Index h = 0; h < model.config().kv_heads && !model.config().kind(l).local; ++h) {
            const std::span<const float> mass = model.attention_mass(l, h).subspan(static_cast<std::size_t>(i), 2);
            sums[at++] += factor * (static_cast<double>(mass[0]) + static_cast<double>(mass[1]));
        }
    }
}

}  // namespace

RetrievalProbe::RetrievalProbe(const Config& config)
    : piece(std::min(Index{1024}, trained_window(config) - trained_window(config) / 8)),
      passage(std::max(Index{1}, piece / 8)) {}

std::vector<double> measure_retrieval(const Checkpoint& checkpoint, std::span<const Token> tokens, Index chunk,
                                      int threads) {
    const Config& config = checkpoint.config;
    const RetrievalProbe probe(config);
    CacheSettings settings{.policy = PolicyName::heavy_hitters};  // which sums attention, and never compresses here
    settings.sizes.capacity = probe.piece + probe.passage;
    const std::unique_ptr<LanguageModel> model = make_host_model(checkpoint, settings, threads);

    const auto pieces = static_cast<Index>(tokens.size()) / probe.piece;
    std::vector<double> sums(static_cast<std::size_t>((config.layers - config.count_local_layers()) * config.kv_heads));
    ReadingProgress progress(static_cast<std::size_t>(pieces * (probe.piece + probe.passage)));
    const auto forward = [&](std::span<const Token> next) {
        model->forward(next);
        progress.add(next.size());
    };
    for (Index p = 0; p < pieces; ++p) {
        const auto piece =
            tokens.subspan(static_cast<std::size_t>(p * probe.piece), static_cast<std::size_t>(probe.piece));
        model->clear();
        for (Index i = 0; i < probe.piece; i += chunk) {
            if (Interrupt::received()) return {};
            const Index count = std::min(chunk, probe.piece - i);
            forward(piece.subspan(static_cast<std::size_t>(i), static_cast<std::size_t>(count)));
        }
        // One by one: what was given to a place between two tokens is what the second gave.
        for (Index i = probe.passage; i < 2 * probe.passage; ++i) {
            if (Interrupt::received()) return {};
            add_mass(*model, i, -1, sums);
            forward(piece.subspan(static_cast<std::size_t>(i), 1));
            add_mass(*model, i, 1, sums);
        }
    }
    const Index queries = pieces * probe.passage * (config.heads / config.kv_heads);
    for (double& sum : sums) sum = std::max(0.0, sum / static_cast<double>(queries));
    return sums;
}

}  // namespace llama
