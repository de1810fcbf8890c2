// SPDX-License-Identifier: MIT
#include "llama/program/spectrum_measurement.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>

#include "freqkv/rope.hpp"
#include "llama/model/random.hpp"
#include "llama/model/rope_scaling.hpp"
#include "llama/program/model_entries.hpp"
#include "llama/program/reading_progress.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

// A model that reads windows, and what compressions transform of its entries.
class WindowReader {
public:
    WindowReader(const Checkpoint& checkpoint, const SpectrumText& text, int threads)
        : config_(checkpoint.config),
          sinks_(text.sinks),
          frequencies_(text.frequencies()),
          transform_(frequencies_, config_.head_dim),
          unrotated_(freqkv::checked_product("keys of a window", frequencies_, config_.head_dim)),
          rope_(rope_options(config_, text.window), text.window),
          no_rope_(rope_options(config_, text.window, {.local = false, .rotated = false})),
          entries_(open_model_entries(checkpoint, text.window, threads)) {}

    void read(std::span<const Token> tokens, Index chunk, ReadingProgress& progress) {
        entries_->clear();
        while (!tokens.empty()) {
            Interrupt::check();
            const std::size_t count = std::min(static_cast<std::size_t>(chunk), tokens.size());
            entries_->forward(tokens.first(count));
            tokens = tokens.subspan(count);
            progress.add(count);
        }
    }

    EntryRows values(Index layer, Index head) const { return behind_sinks(entries_->values(layer, head)); }
    EntryRows rotated_keys(Index layer, Index head) const { return behind_sinks(entries_->keys(layer, head)); }

    // Valid until the next call.
    EntryRows keys(Index layer, Index head) {
        const EntryRows rotated = rotated_keys(layer, head);
        const freqkv::Rope<float>& rope = config_.kind(layer).rotated ? rope_ : no_rope_;
        const freqkv::MatrixView<float> keys(unrotated_.data(), frequencies_, config_.head_dim);
        std::vector<float> scratch(static_cast<std::size_t>(2 * rope.pairs()));
        for (Index i = 0; i < frequencies_; ++i) {
            const float* const angles = rope.angles(sinks_ + i, scratch.data());
            rope.turn<true>(rotated.row(i), rotated.column_stride, keys.row(i), keys.column_stride, angles);
        }
        return keys;
    }

    SequenceTransform& transform() { return transform_; }

private:
    EntryRows behind_sinks(const EntryRows& rows) const { return rows.middle_rows(sinks_, frequencies_); }

    const Config& config_;
    Index sinks_, frequencies_;
    SequenceTransform transform_;
    freqkv::AlignedBuffer<float> unrotated_;
    freqkv::Rope<float> rope_, no_rope_;
    std::unique_ptr<ModelEntries> entries_;
};

std::vector<Token> exchange_tokens(std::span<const Token> tokens, const SpectrumText& text, Random& random) {
    std::vector<Token> result(tokens.begin(), tokens.end());
    for (auto i = static_cast<std::size_t>(text.sinks); i < result.size(); ++i) {
        if (random.uniform() < text.exchange) result[i] = text.tokens[random.next() % text.tokens.size()];
    }
    return result;
}

void add_window_spectra(LayerSums& sums, WindowReader& window, WindowReader* other, std::span<const TokenKind> kinds) {
    for (std::size_t h = 0; h < sums.heads.size(); ++h) {
        Interrupt::check();
        const auto head = static_cast<Index>(h);
        SequenceTransform& transform = window.transform();
        sums.heads[h].rotated_keys.add(transform.forward(window.rotated_keys(sums.layer, head)));
        const auto add = [&](const EntryRows& rows, Spectrum& spectrum, KindEnergies& by_kind) {
            const EntryRows coefficients = transform.forward(rows);
            spectrum.add(coefficients);
            add_by_kind(by_kind, rows, transform.inverse_of_low_half(coefficients), kinds);
            return coefficients;
        };
        const EntryRows keys = add(window.keys(sums.layer, head), sums.heads[h].keys, sums.kinds_of_keys);
        if (other != nullptr) {
            sums.likeness_of_keys.add(keys, other->transform().forward(other->keys(sums.layer, head)));
        }
        const EntryRows values = add(window.values(sums.layer, head), sums.heads[h].values, sums.kinds_of_values);
        if (other != nullptr) {
            sums.likeness_of_values.add(values, other->transform().forward(other->values(sums.layer, head)));
        }
    }
}

}  // namespace

HeadSpectra& HeadSpectra::operator+=(const HeadSpectra& other) {
    keys += other.keys;
    values += other.values;
    rotated_keys += other.rotated_keys;
    return *this;
}

HeadSpectra LayerSums::all_heads() const {
    HeadSpectra all = heads.front();
    for (std::size_t h = 1; h < heads.size(); ++h) all += heads[h];
    return all;
}

std::vector<LayerSums> measure_spectra(const Checkpoint& checkpoint, const SpectrumText& text, Index chunk,
                                       int threads) {
    const Config& config = checkpoint.config;
    const Spectrum none(text.frequencies());
    const Likeness no_likeness(text.frequencies());
    std::vector<LayerSums> layers;
    for (Index l = 0; l < config.layers; ++l) {
        if (config.kind(l).local) continue;
        layers.push_back(
            {l, {static_cast<std::size_t>(config.kv_heads), {none, none, none}}, {}, {}, no_likeness, no_likeness});
    }
    WindowReader reader(checkpoint, text, threads);
    std::unique_ptr<WindowReader> other;
    if (text.exchange > 0) other = std::make_unique<WindowReader>(checkpoint, text, threads);
    ReadingProgress progress(text.tokens.size() * (other ? 2 : 1));
    Random random(1);
    const auto size = static_cast<std::size_t>(text.window);
    for (std::size_t first = 0; first < text.tokens.size(); first += size) {
        const std::span<const Token> tokens = std::span(text.tokens).subspan(first, size);
        reader.read(tokens, chunk, progress);
        if (other) other->read(exchange_tokens(tokens, text, random), chunk, progress);
        const std::span<const TokenKind> kinds = std::span(text.kinds).subspan(first, size);
        for (LayerSums& layer : layers) {
            add_window_spectra(layer, reader, other.get(), kinds.subspan(static_cast<std::size_t>(text.sinks)));
        }
    }
    return layers;
}

}  // namespace llama
