// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/butterflies.hpp"
#include "freqkv/detail/lanes.hpp"
#include "freqkv/detail/unrolled.hpp"
#include "freqkv/error.hpp"
#include "freqkv/workspace.hpp"

// Complex Fourier transforms along a sequence, many columns at once: lane c of every register is column c, so
// that every length vectorises alike. A point is [re, im][lanes] in memory, dense. Nothing is scaled.
namespace freqkv::detail {

/// Elements of one point.
template <class T>
inline constexpr Index point_size = 2 * lane_count<T>;

template <class T>
FREQKV_INLINE Complex<Lanes<T>> load_point(const T* from) {
    return {load_bits<Lanes<T>>(from), load_bits<Lanes<T>>(from + lane_count<T>)};
}

template <class T>
FREQKV_INLINE void store_point(T* to, const Complex<Lanes<T>>& x) {
    store_bits(to, x.re);
    store_bits(to + lane_count<T>, x.im);
}

/// Appends exp(-2 pi i k / n) as (cosine, sine); 0 <= k < n.
template <class T>
void append_turn(Index k, Index n, std::vector<T>& table) {
    const long double angle =
        2 * std::numbers::pi_v<long double> * static_cast<long double>(k) / static_cast<long double>(n);
    table.push_back(static_cast<T>(std::cos(angle)));
    table.push_back(static_cast<T>(-std::sin(angle)));
}

/// Points at equal distances, in elements.
template <class T>
struct Points {
    T* data;
    Index stride;

    FREQKV_INLINE T* operator[](Index i) const { return data + i * stride; }
};

/// One step of StockhamFft: r interleaved transforms of l points each become one of r l points, for each of
/// `rest` subsequences. Input [l][r][rest], output [r][l][rest].
template <class T>
class FftStage {
public:
    /// The largest prime that is done by its definition. Beyond it, Bluestein's way is faster.
    static constexpr Index max_prime = 127;

    FftStage(Index r, Index l, Index rest) : r_(r), l_(l), rest_(rest) {
        for (Index k = 0; k < l; ++k) {
            for (Index j = 0; j < r; ++j) append_turn(j * k % (r * l), r * l, turns_);
        }
        for (Index first = 1; first <= half(); first += group_size) {
            for (Index j = 1; j <= half(); ++j) {
                for (Index k = first; k < std::min(first + group_size, half() + 1); ++k) {
                    append_turn(j * k % r, r, prime_turns_);
                }
            }
        }
    }

    /// `turns`, if not null, holds a factor for each point of the input. Only for the first stage, where
    /// l = 1. `to` may be `from` if r is the whole length.
    void run(Points<const T> from, Points<T> to, const T* turns) const {
        if (!run_codelet(Codelets{}, from, to, turns)) run_prime(from, to, turns);
    }

private:
    using Point = Complex<Lanes<T>>;

    // The radices that have a Butterfly; others are primes.
    using Codelets = std::integer_sequence<Index, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13>;

    template <Index... R>
    bool run_codelet(std::integer_sequence<Index, R...>, Points<const T> from, Points<T> to, const T* turns) const {
        return ((r_ == R && (run_butterflies<R>(from, to, turns), true)) || ...);
    }

    // Frequencies of a prime that are summed at once, as many as there are registers for.
    static constexpr Index group_size = register_bytes == 64 ? 5 : 2;

    Index half() const { return r_ / 2; }

    // Calls f(in, out, factors, whether there are factors) for every butterfly.
    template <class F>
    void for_each_butterfly(Points<const T> from, Points<T> to, const T* turns, F&& f) const {
        for (Index k = 0; k < l_; ++k) {
            const bool turned = turns != nullptr || k > 0;
            for (Index o = 0; o < rest_; ++o) {
                const Points<const T> in{from[k * r_ * rest_ + o], rest_ * from.stride};
                const Points<T> out{to[k * rest_ + o], l_ * rest_ * to.stride};
                const Points<const T> factors = turns != nullptr ? Points<const T>{turns + 2 * o, 2 * rest_}
                                                                 : Points<const T>{turns_.data() + 2 * k * r_, 2};
                turned ? f(in, out, factors, std::true_type{}) : f(in, out, factors, std::false_type{});
            }
        }
    }

    template <bool Turned>
    FREQKV_INLINE static Point load(Points<const T> from, Index j, Points<const T> turns) {
        const Point x = load_point(from[j]);
        if constexpr (Turned) return x.turned(turns[j][0], turns[j][1]);
        return x;
    }

    template <Index R>
    void run_butterflies(Points<const T> from, Points<T> to, const T* turns) const {
        for_each_butterfly(from, to, turns,
                           [](Points<const T> in, Points<T> out, Points<const T> w, auto turned) FREQKV_INLINE_LAMBDA {
                               Point x[R];
                               unrolled<R>([&](auto j) FREQKV_INLINE_LAMBDA { x[j] = load<turned>(in, j, w); });
                               Butterfly<R>::run(x);
                               unrolled<R>([&](auto c) FREQKV_INLINE_LAMBDA { store_point(out[c], x[c]); });
                           });
    }

    // As Butterfly of an odd prime does it, but sums and differences are in memory and frequencies come in
    // groups.
    void run_prime(Points<const T> from, Points<T> to, const T* turns) const {
        alignas(64) T sums[max_prime / 2 * point_size<T>];
        alignas(64) T differences[max_prime / 2 * point_size<T>];
        const auto one = [&](Points<const T> in, Points<T> out, Points<const T> w, auto turned) FREQKV_INLINE_LAMBDA {
            const Point first = load<turned>(in, 0, w);
            Point total = first;
            for (Index j = 1; j <= half(); ++j) {
                const Point x = load<turned>(in, j, w);
                const Point y = load<turned>(in, r_ - j, w);
                total = total + (x + y);
                store_point(sums + (j - 1) * point_size<T>, x + y);
                store_point(differences + (j - 1) * point_size<T>, x - y);
            }
            store_point(out[0], total);
            sum_frequencies(first, sums, differences, out);
        };
        for_each_butterfly(from, to, turns, one);
    }

    void sum_frequencies(const Point& first, const T* sums, const T* differences, Points<T> out) const {
        const T* turns = prime_turns_.data();
        for (Index k = 1; k <= half(); k += group_size) {
            const auto group = [&](auto size) {
                sum_group<size>(first, sums, differences, turns, Points<T>{out[k], out.stride},
                                Points<T>{out[r_ - k], -out.stride});
            };
            const Index size = std::min(group_size, half() + 1 - k);
            unrolled<group_size>([&](auto i) {
                if (i + 1 == size) group(std::integral_constant<Index, i + 1>{});
            });
            turns += 2 * half() * size;
        }
    }

    template <Index Size>
    void sum_group(const Point& first, const T* sums, const T* differences, const T* turns, Points<T> low,
                   Points<T> high) const {
        Point even[Size];
        Point odd[Size];
        unrolled<Size>([&](auto i) FREQKV_INLINE_LAMBDA {
            even[i] = first;
            odd[i] = Point{};
        });
        for (Index j = 0; j < half(); ++j) {
            const Point sum = load_point(sums + j * point_size<T>);
            const Point difference = load_point(differences + j * point_size<T>);
            unrolled<Size>([&](auto i) FREQKV_INLINE_LAMBDA {
                even[i] = even[i].plus(turns[2 * i], sum);
                odd[i] = odd[i].plus(turns[2 * i + 1], difference);
            });
            turns += 2 * Size;
        }
        unrolled<Size>([&](auto i) FREQKV_INLINE_LAMBDA {
            store_point(low[i], plus_i(even[i], odd[i]));
            store_point(high[i], minus_i(even[i], odd[i]));
        });
    }

    Index r_;
    Index l_;
    Index rest_;
    std::vector<T> turns_;        // [l][r] factors of the input
    std::vector<T> prime_turns_;  // [group][half][frequency of the group]
};

/// A transform of m points by Stockham's algorithm: stages of mixed radix that sort as they go, between two
/// buffers small enough for the caches.
template <class T>
class StockhamFft {
public:
    /// m is the product of the radices.
    explicit StockhamFft(std::span<const Index> radices) {
        for (const Index r : radices) size_ *= r;
        Index l = 1;
        for (const Index r : radices) {
            stages_.emplace_back(r, l, size_ / (l * r));
            l *= r;
        }
    }

    Index size() const { return size_; }

    /// Elements of scratch.
    Index scratch_size() const { return stages_.size() < 2 ? 0 : 2 * size_ * point_size<T>; }

    /// `turns`, if not null, are size() complex factors of the input. `to` may be `from`. At least one stage.
    void run(Points<const T> from, Points<T> to, const T* turns, T* scratch) const {
        for (std::size_t i = 0; i < stages_.size(); ++i) {
            const Points<T> half{scratch + static_cast<Index>(i % 2) * size_ * point_size<T>, point_size<T>};
            const Points<T> target = i + 1 == stages_.size() ? to : half;
            stages_[i].run(from, target, i == 0 ? turns : nullptr);
            from = {target.data, target.stride};
        }
    }

private:
    Index size_ = 1;
    std::vector<FftStage<T>> stages_;
};

/// A transform of n = n1 n2 points, none of whose primes is above FftStage::max_prime, as a matrix [n1, n2]
/// in memory (Bailey's four steps): transforms of n1 points down its columns, then factors and transforms of
/// n2 points along its rows, so that data leaves the innermost cache twice only. All is done in place:
/// point n2 i1 + i2 goes in as (i1, i2), and frequency k1 + n1 k2 comes out as (k1, k2).
template <class T>
class MatrixFft {
public:
    /// Throws Error if n has a larger prime.
    explicit MatrixFft(Index n) : MatrixFft(split(n)) {}

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

    explicit MatrixFft(const Split& split) : down_(split.down), along_(split.along) {
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

    // The cheapest radices whose product is n / (its other primes); `best` comes in with an infinite cost.
    struct Radices {
        std::vector<Index> list;
        double cost = 0;
    };
    static void choose(Index n, std::span<const Radix> radices, Radices& chosen, Radices& best) {
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

public:
    /// Whether n has no prime that is too large.
    static bool can(Index n) { return !radices_of(n).empty(); }

private:
    // n as a product of radices; empty if it has a prime above max_prime. That of 1 is 1.
    static std::vector<Index> radices_of(Index n) {
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
    static Split split(Index n) {
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

/// A transform of any length, with the interface of MatrixFft: as a matrix where the primes of n allow it,
/// else in one row, as a convolution with a chirp (Bluestein) of at least 2 n - 1 points.
template <class T>
class ColumnFft {
public:
    explicit ColumnFft(Index n) : n_(n), fft_(is_smooth(n) ? n : convolution_length(n)) {
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

    // The smallest length from 2 n - 1 on without primes above 5.
    static Index convolution_length(Index n) {
        for (Index m = 2 * n - 1;; ++m) {
            Index rest = m;
            for (const Index p : {2, 3, 5}) {
                while (rest % p == 0) rest /= p;
            }
            if (rest == 1) return m;
        }
    }

    // The transform of exp(pi i j^2 / n) / m, j from -n + 1 to n - 1 modulo m.
    std::vector<T> chirp_spectrum(Index m) const {
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

}  // namespace freqkv::detail
