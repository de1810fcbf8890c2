// SPDX-License-Identifier: MIT
#include "llama/program/discarded_energy.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>

#include "freqkv/energy.hpp"
#include "llama/model/language_model.hpp"
#include "llama/program/host_models.hpp"
#include "llama/program/reading_progress.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

class Losses {
public:
    explicit Losses(const Config& config)
        : heads_(config.kv_heads),
          keys_(static_cast<std::size_t>(config.layers * config.kv_heads)),
          values_(keys_.size()) {}

    freqkv::Observer observer() {
        return {[](void* context, const freqkv::CompressionReport& report) {
                    auto* const losses = static_cast<Losses*>(context);
                    losses->keys_[losses->place(report.layer, report.head)] += report.keys;
                    losses->values_[losses->place(report.layer, report.head)] += report.values;
                },
                this};
    }

    double of(Index layer, Index head) const {
        return keys_[place(layer, head)].relative() + values_[place(layer, head)].relative();
    }

private:
    std::size_t place(Index layer, Index head) const { return static_cast<std::size_t>(layer * heads_ + head); }

    Index heads_;
    std::vector<freqkv::Energy> keys_, values_;  // [layers, kv_heads]
};

}  // namespace

std::vector<double> measure_discarded_energy(const Checkpoint& checkpoint, const CacheSettings& settings,
                                             std::span<const Token> tokens, Index chunk, int threads) {
    const Config& config = checkpoint.config;
    Losses losses(config);
    const std::unique_ptr<LanguageModel> model =
        make_host_model(checkpoint, settings, threads, Arithmetic::exact, losses.observer());
    ReadingProgress progress(tokens.size());
    while (!tokens.empty()) {
        if (Interrupt::received()) return {};
        const std::size_t count = std::min(static_cast<std::size_t>(chunk), tokens.size());
        model->forward(tokens.first(count));
        tokens = tokens.subspan(count);
        progress.add(count);
    }
    std::vector<double> weights;
    for (Index l = 0; l < config.layers; ++l) {
        for (Index h = 0; h < config.kv_heads && !config.kind(l).local; ++h) weights.push_back(losses.of(l, h));
    }
    return weights;
}

}  // namespace llama
