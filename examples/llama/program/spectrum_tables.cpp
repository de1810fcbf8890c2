// SPDX-License-Identifier: MIT
#include "llama/program/spectrum_tables.hpp"

#include <cstddef>
#include <initializer_list>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/io/format.hpp"

namespace llama {

namespace {

constexpr const char* spectrum_columns =
    "frequency,keys,values,rotated_keys,keys_cumulative,values_cumulative,rotated_keys_cumulative\n";

std::string csv_cells(std::initializer_list<double> values) {
    std::string text;
    for (const double value : values) text += format(",%.8g", value);
    return text + "\n";
}

void append_spectra(const std::string& name, const HeadSpectra& spectra, const AtomicFile::Append& append) {
    const std::vector<double> keys = spectra.keys.power();
    const std::vector<double> values = spectra.values.power();
    const std::vector<double> rotated_keys = spectra.rotated_keys.power();
    const std::vector<double> below_keys = spectra.keys.cumulative();
    const std::vector<double> below_values = spectra.values.cumulative();
    const std::vector<double> below_rotated_keys = spectra.rotated_keys.cumulative();
    for (std::size_t k = 0; k < keys.size(); ++k) {
        append(name + "," + std::to_string(k) +
               csv_cells({keys[k], values[k], rotated_keys[k], below_keys[k], below_values[k], below_rotated_keys[k]}));
    }
}

std::string kinds_of_layer(const LayerSums& layer) {
    std::string text;
    for (std::size_t k = 0; k < all_token_kinds.size(); ++k) {
        const KindEnergy& keys = layer.kinds_of_keys[k];
        const KindEnergy& values = layer.kinds_of_values[k];
        text += std::to_string(layer.layer) + "," + to_string(all_token_kinds[k]) + "," +
                std::to_string(keys.elements) +
                csv_cells({keys.all, keys.around_mean, keys.lost, values.all, values.around_mean, values.lost});
    }
    return text;
}

}  // namespace

SpectrumTables::SpectrumTables(const std::string& directory, bool exchange)
    : layers_((make_directory(directory), directory + "/layers.csv")),
      heads_(directory + "/heads.csv"),
      kinds_(directory + "/kinds.csv") {
    if (exchange) exchange_.emplace(directory + "/exchange.csv");
}

void SpectrumTables::write(std::span<const LayerSums> layers) const {
    layers_.write_pieces([&](const AtomicFile::Append& append) {
        append(std::string("layer,") + spectrum_columns);
        for (const LayerSums& layer : layers) append_spectra(std::to_string(layer.layer), layer.all_heads(), append);
    });
    heads_.write_pieces([&](const AtomicFile::Append& append) {
        append(std::string("layer,head,") + spectrum_columns);
        for (const LayerSums& layer : layers) {
            for (std::size_t h = 0; h < layer.heads.size(); ++h) {
                append_spectra(std::to_string(layer.layer) + "," + std::to_string(h), layer.heads[h], append);
            }
        }
    });
    kinds_.write_pieces([&](const AtomicFile::Append& append) {
        append("layer,kind,elements,keys,keys_around_mean,keys_lost,values,values_around_mean,values_lost\n");
        for (const LayerSums& layer : layers) append(kinds_of_layer(layer));
    });
    if (!exchange_) return;
    exchange_->write_pieces([&](const AtomicFile::Append& append) {
        append("layer,frequency,keys,values\n");
        for (const LayerSums& layer : layers) {
            for (Index k = 0; k < layer.likeness_of_keys.frequencies(); ++k) {
                append(std::to_string(layer.layer) + "," + std::to_string(k) +
                       csv_cells({layer.likeness_of_keys.cosine(k, k + 1), layer.likeness_of_values.cosine(k, k + 1)}));
            }
        }
    });
}

}  // namespace llama
