// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "freqkv/dct/simd.hpp"
#include "freqkv/dct_plan.hpp"
#include "freqkv/view.hpp"
#include "freqkv/workspace.hpp"
#include "llama/model/config.hpp"
#include "llama/tokenizers/token_kinds.hpp"

// What `freqkv-llama spectrum` adds up of keys or values, [tokens, head_dim], along the sequence. Coefficients are
// those of the orthonormal DCT-II of each column, [frequencies, head_dim], as many frequencies as tokens.
namespace llama {

using EntryRows = freqkv::MatrixView<const float>;

/// The transform of matrices of one shape.
class SequenceTransform {
public:
    SequenceTransform(Index rows, Index columns);

    /// Frequencies that a compression at ratio 0.5 keeps.
    Index low_half() const { return plan_.size() / 2; }

    /// Coefficients, valid until the next call.
    EntryRows forward(const EntryRows& rows);

    /// What the low half of coefficients says of all tokens, [tokens, head_dim]; valid until the next call.
    EntryRows inverse_of_low_half(const EntryRows& coefficients);

private:
    freqkv::DctPlan<float, freqkv::dct::Simd> plan_;
    freqkv::Workspace workspace_;
    freqkv::AlignedBuffer<float> coefficients_, low_pass_;
};

/// Squares of coefficients by frequency, over any number of columns.
class Spectrum {
public:
    explicit Spectrum(Index frequencies) : squares_(static_cast<std::size_t>(frequencies)) {}

    void add(const EntryRows& coefficients);
    Spectrum& operator+=(const Spectrum& other);

    /// The mean square of each frequency's coefficients.
    std::vector<double> power() const;

    /// The part of all energy that each frequency has together with those below it: ascends to 1, or is 0 where there
    /// is none.
    std::vector<double> cumulative() const;

private:
    std::vector<double> squares_;
    Index columns_ = 0;
};

/// How like each other two sets of coefficients are.
class Likeness {
public:
    explicit Likeness(Index frequencies) : sums_(static_cast<std::size_t>(frequencies)) {}

    void add(const EntryRows& coefficients, const EntryRows& others);

    Index frequencies() const { return static_cast<Index>(sums_.size()); }

    /// The cosine of the angle between the coefficients of frequencies [first, end), all columns being one vector; 0 if
    /// one is zero.
    double cosine(Index first, Index end) const;

private:
    struct Sums {
        double products = 0, squares = 0, other_squares = 0;
    };
    std::vector<Sums> sums_;
};

/// Sums of squares over tokens of a kind.
struct KindEnergy {
    Index elements = 0;
    double all = 0;
    double around_mean = 0;  ///< of what differs from the mean of the window
    double lost = 0;         ///< of what the low half of the frequencies does not say

    KindEnergy& operator+=(const KindEnergy& other);
};

using KindEnergies = std::array<KindEnergy, all_token_kinds.size()>;

/// Adds a window's keys or values to the sums of its tokens' kinds; `low_pass` is what the low half says of them.
void add_by_kind(KindEnergies& sums, const EntryRows& rows, const EntryRows& low_pass,
                 std::span<const TokenKind> kinds);

}  // namespace llama
