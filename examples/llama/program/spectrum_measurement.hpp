// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "llama/model/checkpoint.hpp"
#include "llama/program/spectrum_sums.hpp"
#include "llama/tokenizers/token_kinds.hpp"

namespace llama {

/// Windows of a text, each of which is read from an empty cache.
struct SpectrumText {
    std::vector<Token> tokens;  ///< a whole number of windows
    std::vector<TokenKind> kinds;
    Index window = 0;  ///< tokens
    Index sinks = 0;   ///< of each window, which are not transformed
    double exchange = 0;

    Index windows() const { return static_cast<Index>(tokens.size()) / window; }
    Index frequencies() const { return window - sinks; }
};

struct HeadSpectra {
    Spectrum keys, values;  ///< as compressions transform them: keys before their rotation
    Spectrum rotated_keys;  ///< as caches store them

    HeadSpectra& operator+=(const HeadSpectra& other);
};

/// Sums over all windows in a layer that sees the whole text.
struct LayerSums {
    Index layer = 0;
    std::vector<HeadSpectra> heads;                 ///< [kv_heads]
    KindEnergies kinds_of_keys, kinds_of_values;    ///< over all heads
    Likeness likeness_of_keys, likeness_of_values;  ///< with the coefficients of the text with exchanged tokens

    HeadSpectra all_heads() const;
};

/// Reads the windows, `chunk` tokens at a time, and transforms keys and values behind the sinks along the sequence. If
/// SpectrumText::exchange is not 0, each window is read a second time, with any of the text's tokens in the place of
/// that part of the tokens behind the sinks. Shows its progress on a terminal. Throws Interrupted.
std::vector<LayerSums> measure_spectra(const Checkpoint& checkpoint, const SpectrumText& text, Index chunk,
                                       int threads);

}  // namespace llama
