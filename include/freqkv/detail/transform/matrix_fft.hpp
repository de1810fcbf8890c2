// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/transform/butterflies.hpp"
#include "freqkv/detail/transform/stockham_fft.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

/// A transform of n = n1 n2 points, none of whose primes is above FftStage::max_prime, as a matrix [n1, n2]
/// in memory (Bailey's four steps): transforms of n1 points down its columns, then factors and transforms of
/// n2 points along its rows, so that data leaves the innermost cache twice only. All is done in place:
/// point n2 i1 + i2 goes in as (i1, i2), and frequency k1 + n1 k2 comes out as (k1, k2).
template <class T>
class MatrixFft {
public:
    /// Whether n has no prime above FftStage::max_prime.
    static bool can(Index n) { return !radices_of(n).empty(); }

    /// n must be one that can() accepts.
    [[gnu::cold]] explicit MatrixFft(Index n) : MatrixFft(split(n)) {}

    Index rows() const { return down_.size(); }
    Index row_points() const { return along_.size(); }
    /// Elements from one row to the next: an odd number of points, against cache conflicts.
    Index row_stride() const { return (row_points() | 1) * point_size<T>; }
    /// Elements of the matrix, and of the scratch.
    Index matrix_size() const { return rows() * row_stride(); }
    Index scratch_size() const { return std::max(down_.scratch_size(), along_.scratch_size()); }

    /// The first step.
    void transform_columns(T* matrix, T* scratch) const {
        if (rows() == 1) return;
        for (Index i = 0; i < row_points(); ++i) {
            T* const column = matrix + i * point_size<T>;
            down_.run({column, row_stride()}, {column, row_stride()}, nullptr, scratch);
        }
    }

    /// The others, for row k1.
    void transform_row(Index k1, T* matrix, T* scratch) const {
        run_row(matrix + k1 * row_stride(), k1 == 0 ? nullptr : row_turns(k1), scratch);
    }

    /// The frequencies of row k1 times `kernel`, back to the rows of points before transform_row(); all
    /// with real and imaginary parts exchanged.
    void inverse_row(Index k1, const T* kernel, T* matrix, T* scratch) const {
        T* const row = matrix + k1 * row_stride();
        for (Index k2 = 0; k2 < row_points(); ++k2) {
            T* const at = row + k2 * point_size<T>;
            const Complex<Lanes<T>> x = load_point(at).turned(kernel[2 * k2], kernel[2 * k2 + 1]);
            store_point(at, {x.im, x.re});
        }
        run_row(row, nullptr, scratch);
        const T* const turns = row_turns(k1);
        for (Index i = 0; i < row_points(); ++i) {
            T* const at = row + i * point_size<T>;
            store_point(at, load_point(at).turned(turns[2 * i], turns[2 * i + 1]));
        }
    }

private:
    struct Split {
        std::vector<Index> down, along;
    };

    [[gnu::cold]] explicit MatrixFft(const Split& split) : down_(split.down), along_(split.along) {
        const Index n = rows() * row_points();
        for (Index k = 0; k < rows(); ++k) {
            for (Index i = 0; i < row_points(); ++i) append_turn(k * i, n, turns_);
        }
    }

    void run_row(T* row, const T* turns, T* scratch) const {
        along_.run({row, point_size<T>}, {row, point_size<T>}, turns, scratch);
    }

    // The factors of row k1 between the two transforms, [row_points].
    const T* row_turns(Index k1) const { return turns_.data() + 2 * k1 * row_points(); }

    // Below it one row is faster than a matrix.
    static constexpr Index min_matrix = 96;

    // A radix with its time for each point.
    struct Radix {
        Index r;
        double cost;
    };

    struct Radices {
        std::vector<Index> list;
        double cost = 0;
    };

    // The cheapest of the given radices whose product is n, to `best`, which comes in with an infinite cost and
    // keeps it if there are none.
    [[gnu::cold]] static void choose(Index n, std::span<const Radix> radices, Radices& chosen, Radices& best) {
        if (chosen.cost >= best.cost) return;
        if (n == 1) {
            best = chosen;
            return;
        }
        for (; !radices.empty(); radices = radices.subspan(1)) {
            const Radix& radix = radices.front();
            if (n % radix.r != 0) continue;
            chosen.list.push_back(radix.r);
            chosen.cost += radix.cost;
            choose(n / radix.r, radices, chosen, best);
            chosen.list.pop_back();
            chosen.cost -= radix.cost;
        }
    }

    // n as a product of radices; empty if it has a prime above max_prime. That of 1 is 1.
    [[gnu::cold]] static std::vector<Index> radices_of(Index n) {
        // Nanoseconds on a Zen 4 core; only their proportions matter.
        static constexpr Radix small[] = {{12, 3.2}, {10, 2.7}, {8, 2.8}, {6, 2.1},
                                          {5, 2.1},  {4, 2.0},  {3, 2.0}, {2, 2.0}};
        if (n == 1) return {1};
        std::vector<Index> primes;
        for (Index p = 7; p <= FftStage<T>::max_prime; p += 2) {
            for (; p % 3 != 0 && p % 5 != 0 && n % p == 0; n /= p) primes.push_back(p);
        }
        Radices chosen;
        Radices best{{}, std::numeric_limits<double>::infinity()};
        choose(n, small, chosen, best);
        if (std::isinf(best.cost)) return {};
        best.list.insert(best.list.end(), primes.begin(), primes.end());
        return best.list;
    }

    // Rows and columns as equal in number as the radices allow.
    [[gnu::cold]] static Split split(Index n) {
        const std::vector<Index> radices = radices_of(n);
        const auto product = [&](std::size_t subset) {
            Index points = 1;
            for (std::size_t i = 0; i < radices.size(); ++i) {
                if (subset >> i & 1U) points *= radices[i];
            }
            return points;
        };
        std::size_t best = 0;
        if (n >= min_matrix) {
            for (std::size_t subset = 0; subset < std::size_t{1} << radices.size(); ++subset) {
                const auto distance = [&](std::size_t s) { return std::max(product(s), n / product(s)); };
                if (distance(subset) < distance(best)) best = subset;
            }
        }
        Split result;
        for (std::size_t i = 0; i < radices.size(); ++i) {
            (best >> i & 1U ? result.down : result.along).push_back(radices[i]);
        }
        return result;
    }

    StockhamFft<T> down_;
    StockhamFft<T> along_;
    std::vector<T> turns_;  // [rows][row_points] complex
};

}  // namespace freqkv::detail::inline FREQKV_ISA
