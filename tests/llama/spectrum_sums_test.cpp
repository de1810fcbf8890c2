// SPDX-License-Identifier: MIT
#include "llama/program/spectrum_sums.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "llama/model/random.hpp"
#include "naive.hpp"

namespace llama {
namespace {

// [tokens, 3], dense.
struct SpectrumSignal {
    std::vector<float> elements;

    EntryRows view() const { return {elements.data(), static_cast<Index>(elements.size()) / 3, 3}; }
    naive::Rows rows() const {
        naive::Rows rows;
        for (std::size_t i = 0; i < elements.size(); i += 3) {
            rows.push_back({elements[i], elements[i + 1], elements[i + 2]});
        }
        return rows;
    }
};

SpectrumSignal random_spectrum_signal(Index tokens, std::uint64_t seed) {
    Random random(seed);
    SpectrumSignal signal;
    for (Index i = 0; i < 3 * tokens; ++i) signal.elements.push_back(static_cast<float>(random.uniform() + 1));
    return signal;
}

double row_energy(const naive::Row& row) { return naive::dot(row, row); }

TEST(Spectrum, IsThatOfANaiveTransform) {
    for (const Index n : {8, 9, 31, 44}) {
        const SpectrumSignal signal = random_spectrum_signal(n, 1), other = random_spectrum_signal(n, 2);
        SequenceTransform transform(n, 3);
        Spectrum spectrum(n);
        spectrum.add(transform.forward(signal.view()));
        Spectrum of_other(n);
        of_other.add(transform.forward(other.view()));
        spectrum += of_other;
        const naive::Rows expected = naive::dct(signal.rows()), of_other_expected = naive::dct(other.rows());
        const double all =
            naive::energy(signal.rows(), 0, signal.rows().size()) + naive::energy(other.rows(), 0, other.rows().size());
        double below = 0;
        for (std::size_t k = 0; k < expected.size(); ++k) {
            const double sum = row_energy(expected[k]) + row_energy(of_other_expected[k]);
            below += sum;
            EXPECT_NEAR(spectrum.power()[k], sum / 6, 1e-5) << k;
            EXPECT_NEAR(spectrum.cumulative()[k], below / all, 1e-6) << k;
        }
        EXPECT_DOUBLE_EQ(spectrum.cumulative().back(), 1) << "all of the signals' own energy";
    }
}

TEST(Spectrum, OfACosineIsOneFrequency) {
    constexpr std::size_t n = 32;
    SpectrumSignal signal;
    for (std::size_t i = 0; i < n; ++i) {
        const auto value = static_cast<float>(naive::cosine(5, i, n));
        signal.elements.insert(signal.elements.end(), {value, -2 * value, 0});
    }
    Spectrum spectrum(n);
    SequenceTransform transform(n, 3);
    spectrum.add(transform.forward(signal.view()));
    for (std::size_t k = 0; k < n; ++k) EXPECT_NEAR(spectrum.power()[k], k == 5 ? 5.0 / 3 : 0, 1e-6) << k;
    EXPECT_NEAR(spectrum.cumulative()[4], 0, 1e-6);
    EXPECT_NEAR(spectrum.cumulative()[5], 1, 1e-6);
}

TEST(Spectrum, OfNothingHasNoShares) {
    Spectrum spectrum(8);
    SpectrumSignal zero;
    zero.elements.resize(24);
    spectrum.add(zero.view());
    EXPECT_EQ(spectrum.cumulative(), std::vector<double>(8));
    Likeness likeness(8);
    likeness.add(zero.view(), zero.view());
    EXPECT_EQ(likeness.cosine(0, 8), 0);
}

TEST(Likeness, IsTheCosineOfSomeFrequencies) {
    const SpectrumSignal a = random_spectrum_signal(16, 1);
    SpectrumSignal b = a;
    for (std::size_t i = 0; i < 24; ++i) b.elements[i] *= -3;  // of frequencies 0 to 7
    Likeness likeness(16);
    likeness.add(a.view(), b.view());
    EXPECT_EQ(likeness.frequencies(), 16);
    EXPECT_NEAR(likeness.cosine(0, 8), -1, 1e-6);
    EXPECT_NEAR(likeness.cosine(8, 16), 1, 1e-6);
    EXPECT_LT(std::abs(likeness.cosine(0, 16)), 0.9);
}

TEST(KindEnergies, AreWhatHalfOfTheFrequenciesDoesNotSay) {
    constexpr std::size_t n = 20;
    const SpectrumSignal signal = random_spectrum_signal(n, 4);
    SequenceTransform transform(n, 3);
    std::vector<TokenKind> kinds(n, TokenKind::word);
    kinds[3] = kinds[17] = TokenKind::name;
    KindEnergies sums{};
    const EntryRows low_pass = transform.inverse_of_low_half(transform.forward(signal.view()));
    add_by_kind(sums, signal.view(), low_pass, kinds);

    const naive::Rows rows = signal.rows();
    naive::Rows coefficients = naive::dct(rows);
    const double high = naive::energy(coefficients, n / 2, n);
    const double mean = row_energy(coefficients[0]);
    for (std::size_t k = n / 2; k < n; ++k) coefficients[k] = naive::Row(3);
    const naive::Rows low = naive::inverse_dct(coefficients);
    double lost = 0;
    for (const std::size_t i : {std::size_t{3}, std::size_t{17}}) {
        for (std::size_t c = 0; c < 3; ++c) lost += (rows[i][c] - low[i][c]) * (rows[i][c] - low[i][c]);
    }
    const KindEnergy& names = sums[static_cast<std::size_t>(TokenKind::name)];
    const KindEnergy& words = sums[static_cast<std::size_t>(TokenKind::word)];
    EXPECT_EQ(names.elements, 6);
    EXPECT_EQ(words.elements, 54);
    EXPECT_NEAR(names.all, row_energy(rows[3]) + row_energy(rows[17]), 1e-5);
    EXPECT_NEAR(names.lost, lost, 1e-5);
    EXPECT_NEAR(names.lost + words.lost, high, 1e-5);
    EXPECT_NEAR(names.around_mean + words.around_mean, naive::energy(rows, 0, n) - mean, 1e-4);
}

}  // namespace
}  // namespace llama
