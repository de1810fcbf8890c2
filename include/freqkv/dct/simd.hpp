// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/transform/butterflies.hpp"
#include "freqkv/detail/transform/column_fft.hpp"
#include "freqkv/detail/transform/makhoul.hpp"
#include "freqkv/error.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::dct::inline FREQKV_ISA {

/// The transform with a column in each lane of a vector register, so that all lengths vectorise alike. No
/// dependency. O(n log n) per column, where a prime p of n up to 127 costs p / 2 multiply-adds per element;
/// lengths with a larger one take some four times as long as their neighbours (Bluestein).
///
/// By a complex FFT (detail/transform/makhoul.hpp). A block is two registers wide: its first half of columns are the
/// real parts, the others the imaginary ones. The forward transform needs the pairs V_k and V_{n-k}; they are in rows
/// k1 and n1 - k1 of the FFT's matrix, so rows are folded in pairs, while the second of them is still in the innermost
/// cache.
struct Simd {
    template <class T>
    class Plan {
    public:
        static constexpr Index block_columns = freqkv::detail::point_size<T>;

        /// Throws Error if n is too large.
        [[gnu::cold]] explicit Plan(Index n) : n_(checked(n)), fft_(n), turns_(freqkv::detail::makhoul_turns<T>(n)) {}

        Index scratch_bytes() const {
            return (fft_.matrix_size() + fft_.scratch_size()) * static_cast<Index>(sizeof(T));
        }

        template <class In, class Out>
        void forward(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale) const noexcept {
            T* const matrix = reinterpret_cast<T*>(scratch);
            load_rows(in, matrix);
            fold_rows(matrix, coefficients, out, scale);
        }

        template <class In, class Out>
        void inverse(const In& in, Index coefficients, const Out& out, std::byte* scratch, T scale) const noexcept {
            T* const matrix = reinterpret_cast<T*>(scratch);
            unfold_rows(in, coefficients, matrix, scale);
            store_rows(matrix, out);
        }

    private:
        using Point = freqkv::detail::Complex<freqkv::detail::Lanes<T>>;
        using Fft = freqkv::detail::ColumnFft<T>;

        // Goes through the points of the FFT's matrix in order.
        class Walk {
        public:
            Walk(const Fft& fft, T* matrix, Index point)
                : width_(fft.row_points()),
                  gap_(fft.row_stride() - (width_ - 1) * block_columns),
                  column_(point % width_),
                  at_(matrix + point / width_ * fft.row_stride() + column_ * block_columns) {}

            // The current point; afterwards it is the one behind it.
            T* next() {
                T* const point = at_;
                const bool last = ++column_ == width_;
                at_ += last ? gap_ : block_columns;
                if (last) column_ = 0;
                return point;
            }

            // The current point; afterwards it is the one before it.
            T* previous() {
                T* const point = at_;
                const bool first = column_ == 0;
                at_ -= first ? gap_ : block_columns;
                column_ = first ? width_ - 1 : column_ - 1;
                return point;
            }

        private:
            Index width_;
            Index gap_;
            Index column_;
            T* at_;
        };

        static Index checked(Index n) {
            // Bluestein's matrix has fewer than 5 n points.
            checked_product("DCT scratch size", n, 16 * block_columns, sizeof(T));
            return n;
        }

        template <class In>
        static void load(const In& in, Index row, T* point) {
            in.load(row, point);
            for (Index c = in.columns(); c < block_columns; ++c) point[c] = 0;
        }

        // The four steps, out of line: a program has few kinds of rows, in more combinations.

        template <class In>
        FREQKV_OUT_OF_LINE void load_rows(const In& in, T* matrix) const {
            Walk even(fft_, matrix, 0);
            Walk odd(fft_, matrix, n_ - 1);
            for (Index i = 0; i < n_; ++i) load(in, i, i % 2 == 0 ? even.next() : odd.previous());
        }

        template <class Out>
        FREQKV_OUT_OF_LINE void fold_rows(T* matrix, Index coefficients, const Out& out, T scale) const {
            T* const rest = matrix + fft_.matrix_size();
            fft_.transform_columns(matrix, rest);
            const Index rows = fft_.rows();
            for (Index k1 = 0; 2 * k1 <= rows; ++k1) {
                const Index k1_other = k1 == 0 ? 0 : rows - k1;
                fft_.transform_row(k1, matrix, rest);
                if (k1_other != k1) fft_.transform_row(k1_other, matrix, rest);
                const T* const row = matrix + k1 * fft_.row_stride();
                const T* const other = matrix + k1_other * fft_.row_stride();
                fold(row, k1, other, coefficients, out, scale);
                if (k1_other != k1) fold(other, k1_other, row, coefficients, out, scale);
            }
        }

        template <class Out>
        FREQKV_OUT_OF_LINE void store_rows(T* matrix, const Out& out) const {
            T* const rest = matrix + fft_.matrix_size();
            fft_.transform_columns(matrix, rest);
            for (Index k1 = 0; k1 < fft_.rows(); ++k1) {
                fft_.transform_row(k1, matrix, rest);
                const T* point = matrix + k1 * fft_.row_stride();
                for (Index i = k1; i < n_; i += fft_.rows(), point += block_columns) {
                    const Index row = 2 * i < n_ ? 2 * i : 2 * (n_ - i) - 1;
                    // Parts exchanged back.
                    alignas(64) T values[block_columns];
                    const Point x = freqkv::detail::load_point(point);
                    freqkv::detail::store_point(values, {x.im, x.re});
                    out.store(row, values);
                }
            }
        }

        // Coefficients k1, k1 + rows, ... from row k1, and from `other`, which holds the frequencies n - k.
        template <class Out>
        void fold(const T* row, Index k1, const T* other, Index coefficients, const Out& out, T scale) const {
            using freqkv::detail::load_point;
            const Index points = fft_.row_points();
            for (Index k = k1, k2 = 0; k < coefficients; k += fft_.rows(), ++k2) {
                const Index mirrored = k1 > 0 ? points - 1 - k2 : k2 > 0 ? points - k2 : 0;
                const Point v = load_point(row + k2 * block_columns);
                const Point u = load_point(other + mirrored * block_columns);
                const T s = k == 0 ? scale / std::numbers::sqrt2_v<T> : scale;
                const T c = s * turns_.data()[2 * k];
                const T d = s * turns_.data()[2 * k + 1];
                alignas(64) T values[block_columns];
                freqkv::detail::store_point<T>(
                    values, {c * (v.re + u.re) + d * (v.im - u.im), c * (v.im + u.im) - d * (v.re - u.re)});
                out.store(k, values);
            }
        }

        // All points V_k, with real and imaginary part exchanged, for the inverse is the forward FFT between
        // two such exchanges.
        template <class In>
        FREQKV_OUT_OF_LINE void unfold_rows(const In& in, Index coefficients, T* matrix, T scale) const {
            const auto coefficient = [&](Index k) {
                if (k >= coefficients) return Point{};
                alignas(64) T values[block_columns];
                load(in, k, values);
                return freqkv::detail::load_point(values);
            };
            const auto put = [&](T* point, const Point& x, const Point& y, T c, T d) {
                const auto re = x.re + y.im;
                const auto im = x.im - y.re;
                freqkv::detail::store_point<T>(point, {c * im + d * re, c * re - d * im});
            };
            Walk low(fft_, matrix, 0);
            Walk high(fft_, matrix, n_ - 1);
            put(low.next(), coefficient(0), Point{}, scale * std::numbers::sqrt2_v<T> * turns_.data()[0], 0);
            for (Index k = 1; 2 * k <= n_; ++k) {
                const Point x = coefficient(k);
                const Point y = coefficient(n_ - k);
                const T c = scale * turns_.data()[2 * k];
                const T d = scale * turns_.data()[2 * k + 1];
                put(low.next(), x, y, c, d);
                if (2 * k < n_) put(high.previous(), y, x, d, c);  // conj(W_{n-k}) = i W_k
            }
        }

        Index n_;
        Fft fft_;
        std::vector<T> turns_;  // of makhoul_turns()
    };
};

}  // namespace freqkv::dct::inline FREQKV_ISA
