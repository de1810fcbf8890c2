// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::dct::inline FREQKV_ISA {

/// The sums of the definition, as they stand: 2 n * coefficients operations per column, no dependency,
/// any length at the same speed. Products and sums are double whatever T is, so a float result is
/// correctly rounded in all but the rarest cases. The oracle of the tests.
struct Direct {
    template <class T>
    class Plan {
    public:
        /// One AVX-512 register of double, two of AVX.
        static constexpr Index block_columns = 8;

        explicit Plan(Index n)
            : n_(n),
              period_(checked_product("DCT table size", n, 4)),
              scratch_bytes_(checked_product("DCT scratch size", n, block_columns, sizeof(double))),
              cosines_(period_) {
            // Every value comes from the first octant, so that the symmetries of the cosine hold exactly.
            const long double unit = std::numbers::pi_v<long double> / (2 * static_cast<long double>(n));
            double* const table = cosines_.data();
            for (Index j = 0; j <= n; ++j) {
                const long double octant = static_cast<long double>(std::min(j, n - j)) * unit;
                const double value = static_cast<double>(2 * j <= n ? std::cos(octant) : std::sin(octant));
                table[j] = value;
                table[2 * n - j] = -value;
                table[2 * n + j] = -value;
                if (j > 0) table[period_ - j] = value;
            }
            table[n] = table[3 * n] = 0;
        }

        Index scratch_bytes() const { return scratch_bytes_; }

        template <class In, class Out>
        void forward(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale) const noexcept {
            auto* const x = reinterpret_cast<double*>(scratch);
            for (Index i = 0; i < n_; ++i) load(in, i, 1, x + i * block_columns);
            const double first = factor(0) * scale;
            const double other = factor(1) * scale;
            sums(
                x, n_, coefficients, [](Index k) { return Angles{k, 2 * k}; },
                [&](Index k, const double* sum) { store(out, k, k == 0 ? first : other, sum); });
        }

        template <class In, class Out>
        void inverse(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale) const noexcept {
            auto* const x = reinterpret_cast<double*>(scratch);
            for (Index k = 0; k < coefficients; ++k) load(in, k, factor(k), x + k * block_columns);
            sums(
                x, coefficients, n_, [](Index i) { return Angles{0, 2 * i + 1}; },
                [&](Index i, const double* sum) { store(out, i, scale, sum); });
        }

    private:
        // The cosines that the rows of the input meet: table[(at + i * step) mod 4n], in units of pi / 2n.
        struct Angles {
            Index at, step;
        };

        static constexpr Index tile = 4;     // output rows at once: enough sums in flight to hide the latency
        static constexpr Index chunk = 256;  // terms summed by themselves, against rounding

        double factor(Index k) const { return std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(n_)); }

        template <class In>
        static void load(const In& in, Index row, double scale, double* x) {
            T values[block_columns] = {};
            in.load(row, values);
            for (Index c = 0; c < block_columns; ++c) x[c] = scale * static_cast<double>(values[c]);
        }

        template <class Out>
        static void store(const Out& out, Index row, double scale, const double* sum) {
            T values[block_columns];
            for (Index c = 0; c < block_columns; ++c) values[c] = static_cast<T>(scale * sum[c]);
            out.store(row, values);
        }

        // For each output row r in [0, rows): emit(r, sum over i of x[i] * cosine(angles(r) at i)).
        template <class AnglesOf, class Emit>
        void sums(const double* x, Index terms, Index rows, AnglesOf&& angles, Emit&& emit) const {
            for (Index r = 0; r < rows; r += tile) {
                const Index count = std::min(tile, rows - r);
                Angles of_tile[tile];
                for (Index t = 0; t < tile; ++t) of_tile[t] = angles(r + std::min(t, count - 1));
                double sum[tile * block_columns] = {};
                for (Index i = 0; i < terms; i += chunk) {
                    add_tile(x + i * block_columns, std::min(chunk, terms - i), of_tile, sum);
                }
                for (Index t = 0; t < count; ++t) emit(r + t, sum + t * block_columns);
            }
        }

        // The hot loop. Out of line and with its four rows spelled out, because that is the form in which
        // GCC and Clang keep all sums in vector registers, at -O2 too.
        [[gnu::noinline]] void add_tile(const double* x, Index terms, Angles* angles, double* result) const {
            double sum0[block_columns] = {};
            double sum1[block_columns] = {};
            double sum2[block_columns] = {};
            double sum3[block_columns] = {};
            Angles a0 = angles[0];
            Angles a1 = angles[1];
            Angles a2 = angles[2];
            Angles a3 = angles[3];
            for (Index i = 0; i < terms; ++i, x += block_columns) {
                const double cosine0 = next_cosine(a0);
                const double cosine1 = next_cosine(a1);
                const double cosine2 = next_cosine(a2);
                const double cosine3 = next_cosine(a3);
                for (Index c = 0; c < block_columns; ++c) {
                    sum0[c] += cosine0 * x[c];
                    sum1[c] += cosine1 * x[c];
                    sum2[c] += cosine2 * x[c];
                    sum3[c] += cosine3 * x[c];
                }
            }
            for (Index c = 0; c < block_columns; ++c) {
                result[c] += sum0[c];
                result[block_columns + c] += sum1[c];
                result[2 * block_columns + c] += sum2[c];
                result[3 * block_columns + c] += sum3[c];
            }
            angles[0] = a0;
            angles[1] = a1;
            angles[2] = a2;
            angles[3] = a3;
        }

        double next_cosine(Angles& angles) const {
            const double cosine = cosines_.data()[angles.at];
            angles.at += angles.step;
            angles.at -= angles.at >= period_ ? period_ : 0;
            return cosine;
        }

        Index n_;
        Index period_;                   // 4n
        Index scratch_bytes_;            // x, [n][block_columns]
        AlignedBuffer<double> cosines_;  // cos(pi j / 2n), j in [0, 4n)
    };
};

}  // namespace freqkv::dct::inline FREQKV_ISA
