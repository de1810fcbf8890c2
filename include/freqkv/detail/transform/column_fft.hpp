// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/transform/butterflies.hpp"
#include "freqkv/detail/transform/matrix_fft.hpp"
#include "freqkv/detail/transform/prime_factors.hpp"
#include "freqkv/detail/transform/stockham_fft.hpp"
#include "freqkv/workspace.hpp"

namespace freqkv::detail::inline FREQKV_ISA {

/// A transform of any length, with the interface of MatrixFft: as a matrix where the primes of n allow it,
/// else in one row, as a convolution with a chirp (Bluestein) of at least 2 n - 1 points.
template <class T>
class ColumnFft {
public:
    [[gnu::cold]] explicit ColumnFft(Index n) : n_(n), fft_(is_smooth(n) ? n : convolution_length(n)) {
        if (is_smooth(n)) return;
        const Index m = fft_.rows() * fft_.row_points();
        // j^2 modulo 2 n, without overflow.
        Index square = 0;
        for (Index j = 0; j < n; ++j) {
            append_turn(square, 2 * n, chirp_);
            square = (square + 2 * j + 1) % (2 * n);
        }
        kernel_ = chirp_spectrum(m);
    }

    Index rows() const { return is_matrix() ? fft_.rows() : 1; }
    Index row_points() const { return is_matrix() ? fft_.row_points() : n_; }
    Index row_stride() const { return is_matrix() ? fft_.row_stride() : n_ * point_size<T>; }
    Index matrix_size() const { return rows() * row_stride(); }
    Index scratch_size() const { return fft_.scratch_size() + (is_matrix() ? 0 : fft_.matrix_size()); }

    void transform_columns(T* matrix, T* scratch) const {
        if (is_matrix()) fft_.transform_columns(matrix, scratch);
    }

    void transform_row(Index k1, T* matrix, T* scratch) const {
        is_matrix() ? fft_.transform_row(k1, matrix, scratch) : convolve(matrix, scratch);
    }

private:
    using Point = Complex<Lanes<T>>;

    bool is_matrix() const { return chirp_.empty(); }

    static bool is_smooth(Index n) { return MatrixFft<T>::can(n); }

    // The transform of exp(pi i j^2 / n) / m, j from -n + 1 to n - 1 modulo m.
    [[gnu::cold]] std::vector<T> chirp_spectrum(Index m) const {
        const AlignedBuffer<T> memory(fft_.matrix_size() + fft_.scratch_size());
        T* const matrix = memory.data();
        T* const scratch = matrix + fft_.matrix_size();
        std::fill_n(matrix, fft_.matrix_size(), T(0));
        const auto at = [&](Index i) {
            return matrix + i / fft_.row_points() * fft_.row_stride() + i % fft_.row_points() * point_size<T>;
        };
        for (Index j = 0; j < n_; ++j) {
            for (T* const point : {at(j), at((m - j) % m)}) {  // in the first lane, the others are nothing
                point[0] = chirp_.data()[2 * j] / static_cast<T>(m);
                point[lane_count<T>] = -chirp_.data()[2 * j + 1] / static_cast<T>(m);
            }
        }
        std::vector<T> spectrum;
        spectrum.reserve(static_cast<std::size_t>(2 * m));
        fft_.transform_columns(matrix, scratch);
        for (Index k1 = 0; k1 < fft_.rows(); ++k1) {
            fft_.transform_row(k1, matrix, scratch);
            for (Index k2 = 0; k2 < fft_.row_points(); ++k2) {
                const T* const point = at(k1 * fft_.row_points() + k2);
                spectrum.push_back(point[0]);
                spectrum.push_back(point[lane_count<T>]);
            }
        }
        return spectrum;
    }

    // The convolution: points [n], in place.
    void convolve(T* points, T* scratch) const {
        T* const matrix = scratch + fft_.scratch_size();
        const Index width = fft_.row_points();
        for (Index i1 = 0; i1 < fft_.rows(); ++i1) {
            for (Index i2 = 0; i2 < width; ++i2) {
                const Index j = i1 * width + i2;
                Point x = {};
                if (j < n_)
                    x = load_point(points + j * point_size<T>).turned(chirp_.data()[2 * j], chirp_.data()[2 * j + 1]);
                store_point(matrix + i1 * fft_.row_stride() + i2 * point_size<T>, x);
            }
        }
        fft_.transform_columns(matrix, scratch);
        for (Index k1 = 0; k1 < fft_.rows(); ++k1) {
            fft_.transform_row(k1, matrix, scratch);
            fft_.inverse_row(k1, kernel_.data() + 2 * k1 * width, matrix, scratch);
        }
        fft_.transform_columns(matrix, scratch);
        for (Index i1 = 0; i1 * width < n_; ++i1) {
            for (Index i2 = 0; i2 < std::min(width, n_ - i1 * width); ++i2) {
                const Index k = i1 * width + i2;
                const Point x = load_point(matrix + i1 * fft_.row_stride() + i2 * point_size<T>);
                store_point(points + k * point_size<T>,
                            Point{x.im, x.re}.turned(chirp_.data()[2 * k], chirp_.data()[2 * k + 1]));
            }
        }
    }

    Index n_;
    MatrixFft<T> fft_;
    std::vector<T> chirp_;   // exp(-pi i j^2 / n), [n] complex; empty if fft_ is the transform itself
    std::vector<T> kernel_;  // by frequency of fft_, [rows][row_points] complex
};

}  // namespace freqkv::detail::inline FREQKV_ISA
