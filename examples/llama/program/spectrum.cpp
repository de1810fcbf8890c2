// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/io/format.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/open_model.hpp"
#include "llama/program/program.hpp"
#include "llama/program/spectrum_measurement.hpp"
#include "llama/program/spectrum_tables.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/token_kinds.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

namespace {

constexpr Index longest_standard_window = 2048;
constexpr Index fewest_frequencies = 8;

SpectrumText read_spectrum_text(const SpectrumOptions& options, const Checkpoint& checkpoint) {
    const Config& config = checkpoint.config;
    SpectrumText text;
    text.sinks = options.sinks.value_or(4);
    text.exchange = options.exchange;
    const Index least = std::max(options.window, text.sinks + fewest_frequencies);
    const Index standard = std::min(trained_window(config), longest_standard_window);
    if (config.sliding_window > 0 && options.window > config.sliding_window) {
        throw UsageError("--window " + std::to_string(options.window) + ": the model attends to the latest " +
                         std::to_string(config.sliding_window) + " tokens only");
    }
    if ((options.window > 0 ? options.window : standard) < least) {
        throw UsageError("--sinks " + std::to_string(text.sinks) + ": the window has to be " + std::to_string(least) +
                         " tokens or more");
    }
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(options.tokenizer, checkpoint);
    text.tokens = read_text_files({options.text}, *tokenizer, config.vocabulary, options.threads).tokens;
    const Index count = std::min(static_cast<Index>(text.tokens.size()), options.limit);
    if (count < least) {
        throw FileError(options.text, "it has " + std::to_string(count) + " tokens to read, and " +
                                          std::to_string(least) +
                                          " are needed for a window (a longer text, or a larger --limit)");
    }
    text.window = options.window > 0 ? options.window : std::min(standard, count);
    text.tokens.resize(static_cast<std::size_t>(count / text.window * text.window));
    text.kinds = kinds_of_tokens(text.tokens, *tokenizer);
    return text;
}

// Parts of the energy.
struct Shares {
    double mean = 0, quarter = 0, half = 0;

    explicit Shares(const Spectrum& spectrum) {
        const std::vector<double> cumulative = spectrum.cumulative();
        mean = cumulative.front();
        quarter = cumulative[cumulative.size() / 4 - 1];
        half = cumulative[cumulative.size() / 2 - 1];
    }

    nlohmann::ordered_json to_json() const { return {{"mean", mean}, {"quarter", quarter}, {"half", half}}; }
    std::string to_text() const { return format("   %5.3f %5.3f %5.3f", mean, quarter, half); }
};

// Of the coefficients of two texts.
struct Cosines {
    double mean = 0, low = 0, high = 0;

    explicit Cosines(const Likeness& likeness)
        : mean(likeness.cosine(0, 1)),
          low(likeness.cosine(1, likeness.frequencies() / 2)),
          high(likeness.cosine(likeness.frequencies() / 2, likeness.frequencies())) {}

    nlohmann::ordered_json to_json() const { return {{"mean", mean}, {"low", low}, {"high", high}}; }
    std::string to_text() const { return format("   %5.3f %5.3f %5.3f", mean, low, high); }
};

std::string layer_number(const LayerSums& layer) { return format("%5lld", static_cast<long long>(layer.layer)); }

std::string report_layers(const std::vector<LayerSums>& layers, nlohmann::ordered_json& object) {
    std::string table =
        "part of the energy in the mean, and below 1/4 and 1/2 of the frequencies\n"
        "        keys                values              rotated keys\n"
        "layer    mean   1/4   1/2    mean   1/4   1/2    mean   1/4   1/2\n";
    for (const LayerSums& layer : layers) {
        const HeadSpectra all = layer.all_heads();
        const Shares keys(all.keys), values(all.values), rotated_keys(all.rotated_keys);
        object["layers"].push_back({{"layer", layer.layer},
                                    {"keys", keys.to_json()},
                                    {"values", values.to_json()},
                                    {"rotated_keys", rotated_keys.to_json()}});
        table += layer_number(layer) + keys.to_text() + values.to_text() + rotated_keys.to_text() + "\n";
    }
    return table;
}

// What is lost of a kind of token, as part of its energy around the mean: the mean over the layers.
struct Loss {
    double part = 0;
    /// Of tokens with the same energies that have nothing to do with their neighbours: half a spectrum says half of
    /// each, which loses a quarter, and spreads the other half over all, on which a quarter of their mean energy comes.
    double of_unrelated = 0;

    Loss(const std::vector<LayerSums>& layers, KindEnergies LayerSums::* kinds, std::size_t kind) {
        for (const LayerSums& layer : layers) {
            const KindEnergies& energies = layer.*kinds;
            KindEnergy all;
            for (const KindEnergy& energy : energies) all += energy;
            const KindEnergy& own = energies[kind];
            if (own.around_mean <= 0) continue;
            const auto count = static_cast<double>(layers.size());
            part += own.lost / own.around_mean / count;
            const double mean = all.around_mean * static_cast<double>(own.elements) / static_cast<double>(all.elements);
            of_unrelated += (1 + mean / own.around_mean) / 4 / count;
        }
    }

    nlohmann::ordered_json to_json() const { return {{"lost", part}, {"of_unrelated", of_unrelated}}; }
    std::string to_text() const { return format("   %5.3f     %5.3f", part, of_unrelated); }
};

std::string report_kinds(const std::vector<LayerSums>& layers, Index elements_of_token,
                         nlohmann::ordered_json& object) {
    std::string table =
        "part of the energy around the mean that half of the frequencies do not say, mean of the layers\n"
        "                        keys              values\n"
        "                tokens    lost unrelated    lost unrelated\n";
    for (std::size_t k = 0; k < all_token_kinds.size(); ++k) {
        const Index tokens = layers.front().kinds_of_keys[k].elements / elements_of_token;
        if (tokens == 0) continue;
        const Loss keys(layers, &LayerSums::kinds_of_keys, k), values(layers, &LayerSums::kinds_of_values, k);
        const char* const name = to_string(all_token_kinds[k]);
        object["kinds"].push_back(
            {{"kind", name}, {"tokens", tokens}, {"keys", keys.to_json()}, {"values", values.to_json()}});
        table +=
            format("  %-12s%8lld", name, static_cast<long long>(tokens)) + keys.to_text() + values.to_text() + "\n";
    }
    return table;
}

std::string report_exchange(const std::vector<LayerSums>& layers, double part, nlohmann::ordered_json& object) {
    std::string table = format("cosine of the coefficients before and after %g of the tokens were exchanged\n", part) +
                        "        keys                values\n"
                        "layer    mean   low  high    mean   low  high\n";
    for (const LayerSums& layer : layers) {
        const Cosines keys(layer.likeness_of_keys), values(layer.likeness_of_values);
        object["exchanged"].push_back({{"layer", layer.layer}, {"keys", keys.to_json()}, {"values", values.to_json()}});
        table += layer_number(layer) + keys.to_text() + values.to_text() + "\n";
    }
    return table;
}

}  // namespace

int spectrum(const SpectrumOptions& options) {
    const Checkpoint checkpoint = open_model(options);
    const Config& config = checkpoint.config;
    if (config.count_local_layers() == config.layers) {
        throw UsageError("no layer of the model sees the whole text, so nothing of it is compressed");
    }
    const SpectrumText text = read_spectrum_text(options, checkpoint);
    const JsonOutput json(options.json);
    std::optional<SpectrumTables> tables;
    if (!options.out.empty()) tables.emplace(options.out, text.exchange > 0);
    Interrupt::install();
    std::vector<LayerSums> layers;
    try {
        layers = measure_spectra(checkpoint, text, options.prefill_chunk, options.threads);
    } catch (const Interrupted&) {
        std::fprintf(stderr, "freqkv-llama: interrupted, nothing written\n");
        return Interrupt::exit_status();
    }
    if (tables) tables->write(layers);
    nlohmann::ordered_json object{{"model", options.model},    {"tokens", text.tokens.size()},
                                  {"windows", text.windows()}, {"window", text.window},
                                  {"sinks", text.sinks},       {"frequencies", text.frequencies()},
                                  {"exchange", text.exchange}};
    std::string report =
        format("%lld windows of %lld tokens, %lld of them behind the sinks\n\n", static_cast<long long>(text.windows()),
               static_cast<long long>(text.window), static_cast<long long>(text.frequencies()));
    report += report_layers(layers, object) + "\n" + report_kinds(layers, config.kv_dim(), object);
    if (text.exchange > 0) report += "\n" + report_exchange(layers, text.exchange, object);
    json.write(object);
    if (!json.takes_stdout()) TextOutput().write(report);
    return 0;
}

}  // namespace llama
