// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/transform/transform_view.hpp"
#include "freqkv/detail/transform/prime_factors.hpp"
#include "freqkv/error.hpp"

namespace freqkv::cuda::detail {

/// Passes that kernels have, and what a point costs in each, in additions.
inline constexpr std::array<int, 18> fft_radices{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 19, 23, 29, 31};

/// Up to this radix a thread has the registers for the points of two columns.
inline constexpr int widest_pair_radix = 16;

/// The radices of an FFT in the order of its passes: as few passes as the work in them allows, each of which is a
/// trip through shared memory. Odd ones first, since the first passes take points at distances that are products of
/// radices before them, and odd distances meet all banks. Empty if n has another prime factor.
inline std::vector<int> fft_passes(int n) {
    struct Search {
        std::vector<int> best, radices;
        double least = std::numeric_limits<double>::infinity();

        static double cost(int radix) {
            double work = 12;  // the trip
            for (const int p : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31}) {
                for (int rest = radix; rest % p == 0; rest /= p) work += p == 2 ? 2.5 : p;
            }
            return work;
        }
        void factor(int n, std::size_t largest, double so_far) {
            if (so_far >= least) return;
            if (n == 1) {
                least = so_far;
                best = radices;
                return;
            }
            for (std::size_t i = largest + 1; i-- > 0;) {
                if (n % fft_radices[i] != 0) continue;
                radices.push_back(fft_radices[i]);
                factor(n / fft_radices[i], i, so_far + cost(fft_radices[i]));
                radices.pop_back();
            }
        }
    };
    if (n == 1) return {1};
    Search search;
    search.factor(n, fft_radices.size() - 1, 0);
    std::vector<int> passes;
    for (const bool odd : {true, false}) {
        for (const int radix : search.best) {
            if ((radix % 2 == 1) == odd) passes.push_back(radix);
        }
    }
    return passes;
}

/// The tables of one length, in host memory.
class TransformTables {
public:
    /// What fits 16-bit factors of FastDivisor, and shared memory long before.
    static constexpr Index max_length = 1 << 14;

    /// Throws Error unless 1 <= n <= max_length.
    explicit TransformTables(Index n) {
        if (n < 1 || n > max_length) {
            refuse("n", std::to_string(n), "must be 1 to " + std::to_string(max_length) + " on a device");
        }
        view_.length = static_cast<int>(n);
        std::vector<int> passes = fft_passes(view_.length);
        const bool convolves = passes.empty();
        // Of a length that needs only passes wide enough for pairs of columns, and at most one more of them than a
        // power of two.
        if (convolves) passes = fft_passes(static_cast<int>(freqkv::detail::convolution_length(n)));
        make_passes(passes);
        const std::vector<int> reversed = digit_reversed(passes);
        for (int slot = 0; slot < view_.length; ++slot) {
            const int i = convolves ? slot : reversed[static_cast<std::size_t>(slot)];
            rows.push_back(i < (view_.length + 1) / 2 ? 2 * i : 2 * (view_.length - 1 - i) + 1);
        }
        for (int k = 0; k <= view_.length / 2; ++k) quarter_turns.push_back(turn(k, 4 * n));
        if (convolves) make_chirp(reversed);
    }

    std::vector<Factor> twiddles, quarter_turns, chirp, chirp_spectrum;
    std::vector<std::int32_t> rows;

    /// The view with pointers into these vectors.
    TransformView view() const {
        TransformView view = view_;
        view.fft.twiddles = twiddles.data();
        view.rows = rows.data();
        view.quarter_turns = quarter_turns.data();
        view.chirp = chirp.empty() ? nullptr : chirp.data();
        view.chirp_spectrum = chirp_spectrum.empty() ? nullptr : chirp_spectrum.data();
        return view;
    }

    int length() const { return view_.length; }
    /// Points in shared memory for each column.
    int slots() const { return view_.fft.length; }
    int largest_radix() const {
        int largest = 1;
        for (int i = 0; i < view_.fft.passes; ++i) largest = std::max(largest, view_.fft.pass[i].radix);
        return largest;
    }

private:
    // exp(-2 pi i part / whole), for 0 <= part < whole.
    static Factor turn(Index part, Index whole) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(part) / static_cast<double>(whole);
        return {static_cast<float>(std::cos(angle)), static_cast<float>(-std::sin(angle))};
    }

    void make_passes(const std::vector<int>& radices) {
        FftView& fft = view_.fft;
        fft.passes = static_cast<int>(radices.size());
        fft.takes_gaps = 16 % radices.front() == 0;
        int span = 1;
        for (std::size_t i = 0; i < radices.size(); ++i) {
            const int radix = radices[i];
            if (i > 0 && span % 16 != 0) fft.takes_gaps = false;
            fft.pass[i] = {radix, span, static_cast<int>(twiddles.size()), FastDivisor(span)};
            for (int q = 1; q < radix; ++q) {
                for (int j = 0; j < span; ++j) twiddles.push_back(turn(Index{j} * q, Index{span} * radix));
            }
            span *= radix;
        }
        fft.length = span;
    }

    // The point that belongs to a slot before the passes run forwards.
    static std::vector<int> digit_reversed(const std::vector<int>& radices) {
        std::vector<int> points{0};
        for (const int radix : radices) {
            std::vector<int> next;
            for (int q = 0; q < radix; ++q) {
                for (const int point : points) next.push_back(q + radix * point);
            }
            points = std::move(next);
        }
        return points;
    }

    void make_chirp(const std::vector<int>& reversed) {
        const Index n = view_.length;
        const auto m = static_cast<std::size_t>(view_.fft.length);
        std::vector<std::complex<double>> kernel(m);
        for (Index j = 0; j < n; ++j) {
            const Index square = j * j % (2 * n);  // keeps the angle below a turn
            const double angle = std::numbers::pi * static_cast<double>(square) / static_cast<double>(n);
            chirp.push_back(turn(square, 2 * n));
            const auto at = static_cast<std::size_t>(j);
            kernel[at] = kernel[(m - at) % m] = std::polar(1.0 / static_cast<double>(m), angle);
        }
        const std::vector<std::complex<double>> spectrum = fourier(kernel);
        for (const int point : reversed) {
            const std::complex<double> value = spectrum[static_cast<std::size_t>(point)];
            chirp_spectrum.push_back({static_cast<float>(value.real()), static_cast<float>(value.imag())});
        }
    }

    // The Fourier transform of a length with primes up to 5, by halving, thirds and fifths.
    static std::vector<std::complex<double>> fourier(const std::vector<std::complex<double>>& x) {
        const std::size_t n = x.size();
        if (n == 1) return x;
        const std::size_t p = n % 2 == 0 ? 2 : n % 3 == 0 ? 3 : 5;
        std::vector<std::vector<std::complex<double>>> parts;
        for (std::size_t q = 0; q < p; ++q) {
            std::vector<std::complex<double>> part;
            for (std::size_t i = q; i < n; i += p) part.push_back(x[i]);
            parts.push_back(fourier(part));
        }
        std::vector<std::complex<double>> result(n);
        for (std::size_t k = 0; k < n; ++k) {
            for (std::size_t q = 0; q < p; ++q) {
                const double part = static_cast<double>(q * k % n) / static_cast<double>(n);
                result[k] += std::polar(1.0, -2 * std::numbers::pi * part) * parts[q][k % (n / p)];
            }
        }
        return result;
    }

    TransformView view_;
};

}  // namespace freqkv::cuda::detail
