// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>

#include "freqkv/config.hpp"
#include "freqkv/energy.hpp"
#include "freqkv/error.hpp"
#include "freqkv/policy/whole_span.hpp"

namespace freqkv::inline FREQKV_ISA {

/// n rows become `kept`: row k is the mean of rows floor(k n / kept) to floor((k + 1) n / kept) - 1, each column by
/// itself. Linear; gain exactly 1 on a constant column, up to rounding; never raises the energy. Where n / kept is a
/// power of 2, these are the low coefficients of the Haar transform, of the amplitude that gain 1 needs.
template <class C>
class BlockMeanPlan {
public:
    static constexpr Index block_columns = 16;

    /// Throws Error unless 1 <= kept <= n.
    BlockMeanPlan(Index n, Index kept) : n_(n), kept_(kept) {
        require(kept >= 1 && kept <= n, "kept", kept, "must be at least 1 and at most n");
    }

    /// Rows before and after.
    Index size() const { return n_; }
    Index kept() const { return kept_; }

    Index scratch_bytes() const { return checked_product("scratch of block means", kept_, block_columns, sizeof(C)); }

    /// O(n * columns).
    template <class In, class Out>
    void forward(const In& in, const Out& out, std::byte* scratch, Energy* energy) const noexcept {
        auto* const means = reinterpret_cast<C*>(scratch);  // rows are stored behind the last that is loaded
        double total = 0, left = 0;
        for (Index k = 0; k < kept_; ++k) {
            C* const mean = means + k * block_columns;
            std::fill_n(mean, block_columns, C{0});
            const Index count = begin(k + 1) - begin(k);
            for (Index row = begin(k); row < begin(k + 1); ++row) {
                alignas(64) C values[block_columns] = {};
                in.load(row, values);
                for (Index c = 0; c < block_columns; ++c) mean[c] += values[c];
                if (energy != nullptr) total += squares(values);
            }
            for (Index c = 0; c < block_columns; ++c) mean[c] /= static_cast<C>(count);
            if (energy != nullptr) left += static_cast<double>(count) * squares(mean);
        }
        for (Index k = 0; k < kept_; ++k) out.store(k, means + k * block_columns);
        if (energy == nullptr) return;
        energy->total += total;
        energy->discarded += std::max(0.0, total - left);
    }

    /// The transpose of forward(): each row's part for each of those that it is the mean of.
    template <class In, class Out>
    void adjoint(const In& in, const Out& out, std::byte* scratch) const noexcept {
        auto* const rows = reinterpret_cast<C*>(scratch);
        for (Index k = 0; k < kept_; ++k) in.load(k, rows + k * block_columns);
        for (Index k = 0; k < kept_; ++k) {
            C* const row = rows + k * block_columns;
            for (Index c = 0; c < in.columns(); ++c) row[c] /= static_cast<C>(begin(k + 1) - begin(k));
            for (Index i = begin(k); i < begin(k + 1); ++i) out.store(i, row);
        }
    }

private:
    Index begin(Index k) const { return k * n_ / kept_; }

    static double squares(const C* values) {
        double sum = 0;
        for (Index c = 0; c < block_columns; ++c)
            sum += static_cast<double>(values[c]) * static_cast<double>(values[c]);
        return sum;
    }

    Index n_;
    Index kept_;
};

}  // namespace freqkv::inline FREQKV_ISA

namespace freqkv {

/// A TransformCodec of block means.
struct BlockMeanCodec {
    template <class C>
    BlockMeanPlan<C> plan(Index length, Index keep) const {
        return BlockMeanPlan<C>(length, keep);
    }
};

/// Neighbours become their mean: pooling, and the low-pass of Haar's wavelets.
struct BlockMean {
    WholeSpan schedule;
    BlockMeanCodec codec;

    /// `ratio` in (0, 1) is the part of the span that is kept at a compression.
    explicit BlockMean(double ratio = 0.5) : schedule{ratio} {}
};

}  // namespace freqkv
