// SPDX-License-Identifier: MIT
#include "llama/program/spectrum_sums.hpp"

#include <cmath>

namespace llama {

namespace {

double entry_element(const EntryRows& rows, Index row, Index column) {
    return static_cast<double>(rows.row(row)[column * rows.column_stride]);
}

}  // namespace

SequenceTransform::SequenceTransform(Index rows, Index columns)
    : plan_(rows),
      coefficients_(freqkv::checked_product("coefficients", rows, columns)),
      low_pass_(coefficients_.size()) {}

EntryRows SequenceTransform::forward(const EntryRows& rows) {
    const freqkv::MatrixView<float> coefficients(coefficients_.data(), rows.rows, rows.columns);
    plan_.forward(rows, coefficients, workspace_);
    return coefficients;
}

EntryRows SequenceTransform::inverse_of_low_half(const EntryRows& coefficients) {
    const freqkv::MatrixView<float> low_pass(low_pass_.data(), coefficients.rows, coefficients.columns);
    plan_.inverse(coefficients.middle_rows(0, low_half()), low_pass, workspace_);
    return low_pass;
}

void Spectrum::add(const EntryRows& coefficients) {
    for (Index k = 0; k < coefficients.rows; ++k) {
        double sum = 0;
        for (Index c = 0; c < coefficients.columns; ++c) {
            const double coefficient = entry_element(coefficients, k, c);
            sum += coefficient * coefficient;
        }
        squares_[static_cast<std::size_t>(k)] += sum;
    }
    columns_ += coefficients.columns;
}

Spectrum& Spectrum::operator+=(const Spectrum& other) {
    for (std::size_t k = 0; k < squares_.size(); ++k) squares_[k] += other.squares_[k];
    columns_ += other.columns_;
    return *this;
}

std::vector<double> Spectrum::power() const {
    std::vector<double> power = squares_;
    for (double& value : power) value /= static_cast<double>(columns_);
    return power;
}

std::vector<double> Spectrum::cumulative() const {
    std::vector<double> sums;
    sums.reserve(squares_.size());
    double sum = 0;
    for (const double square : squares_) sums.push_back(sum += square);
    if (sum > 0) {
        for (double& value : sums) value /= sum;
    }
    return sums;
}

void Likeness::add(const EntryRows& coefficients, const EntryRows& others) {
    for (Index k = 0; k < coefficients.rows; ++k) {
        Sums& sums = sums_[static_cast<std::size_t>(k)];
        for (Index c = 0; c < coefficients.columns; ++c) {
            const double a = entry_element(coefficients, k, c);
            const double b = entry_element(others, k, c);
            sums.products += a * b;
            sums.squares += a * a;
            sums.other_squares += b * b;
        }
    }
}

double Likeness::cosine(Index first, Index end) const {
    Sums all;
    for (Index k = first; k < end; ++k) {
        const Sums& sums = sums_[static_cast<std::size_t>(k)];
        all.products += sums.products;
        all.squares += sums.squares;
        all.other_squares += sums.other_squares;
    }
    const double lengths = std::sqrt(all.squares) * std::sqrt(all.other_squares);
    return lengths > 0 ? all.products / lengths : 0;
}

KindEnergy& KindEnergy::operator+=(const KindEnergy& other) {
    elements += other.elements;
    all += other.all;
    around_mean += other.around_mean;
    lost += other.lost;
    return *this;
}

void add_by_kind(KindEnergies& sums, const EntryRows& rows, const EntryRows& low_pass,
                 std::span<const TokenKind> kinds) {
    std::vector<double> mean(static_cast<std::size_t>(rows.columns));
    for (Index c = 0; c < rows.columns; ++c) {
        double& sum = mean[static_cast<std::size_t>(c)];
        for (Index r = 0; r < rows.rows; ++r) sum += entry_element(rows, r, c);
        sum /= static_cast<double>(rows.rows);
    }
    for (Index r = 0; r < rows.rows; ++r) {
        KindEnergy energy{.elements = rows.columns};
        for (Index c = 0; c < rows.columns; ++c) {
            const double value = entry_element(rows, r, c);
            const double around_mean = value - mean[static_cast<std::size_t>(c)];
            const double lost = value - entry_element(low_pass, r, c);
            energy.all += value * value;
            energy.around_mean += around_mean * around_mean;
            energy.lost += lost * lost;
        }
        sums[static_cast<std::size_t>(kinds[static_cast<std::size_t>(r)])] += energy;
    }
}

}  // namespace llama
