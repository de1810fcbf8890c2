// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <string>

#include "llama/io/atomic_file.hpp"
#include "llama/program/spectrum_measurement.hpp"

namespace llama {

/// The CSV files of a directory: layers.csv and heads.csv, spectra with a line for each frequency; kinds.csv, energy
/// by kind of token; exchange.csv, cosines with the text with exchanged tokens. docs/spectrum.md has their columns.
class SpectrumTables {
public:
    /// Makes the directory. Throws FileError now if the files cannot be written later.
    SpectrumTables(const std::string& directory, bool exchange);

    void write(std::span<const LayerSums> layers) const;

private:
    AtomicFile layers_, heads_, kinds_;
    std::optional<AtomicFile> exchange_;
};

}  // namespace llama
