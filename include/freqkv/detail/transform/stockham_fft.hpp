// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/lanes.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/detail/transform/butterflies.hpp"

// Complex Fourier transforms along a sequence, many columns at once: lane c of every register is column c, so
// that every length vectorises alike. A point is [re, im][lanes] in memory, dense. Nothing is scaled.
namespace freqkv::detail::inline FREQKV_ISA {

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

    [[gnu::cold]] FftStage(Index r, Index l, Index rest) : r_(r), l_(l), rest_(rest) {
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

    // The radices that have a Butterfly; others are 1 and primes.
    using Codelets = std::integer_sequence<Index, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13>;

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
                f(in, out, factors, turned);
            }
        }
    }

    template <Index R>
    void run_butterflies(Points<const T> from, Points<T> to, const T* turns) const {
        run_butterflies<R>(from, to, turns, std::make_integer_sequence<Index, R>{});
    }

    template <Index R, Index... J>
    void run_butterflies(Points<const T> from, Points<T> to, const T* turns, std::integer_sequence<Index, J...>) const {
        const auto one = [](Points<const T> in, Points<T> out, Points<const T> w, bool turned) FREQKV_INLINE_LAMBDA {
            Point x[R] = {load_point(in[J])...};
            if (turned) ((x[J] = x[J].turned(w[J][0], w[J][1])), ...);
            Butterfly<R>::run(x);
            (store_point(out[J], x[J]), ...);
        };
        for_each_butterfly(from, to, turns, one);
    }

    // As Butterfly of an odd prime does it, but sums and differences are in memory and frequencies come in
    // groups.
    void run_prime(Points<const T> from, Points<T> to, const T* turns) const {
        alignas(64) T sums[max_prime / 2 * point_size<T>];
        alignas(64) T differences[max_prime / 2 * point_size<T>];
        const auto one = [&](Points<const T> in, Points<T> out, Points<const T> w, bool turned) FREQKV_INLINE_LAMBDA {
            const auto load = [&](Index j) {
                const Point x = load_point(in[j]);
                return turned ? x.turned(w[j][0], w[j][1]) : x;
            };
            const Point first = load(0);
            Point total = first;
            for (Index j = 1; j <= half(); ++j) {
                const Point x = load(j);
                const Point y = load(r_ - j);
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
    [[gnu::cold]] explicit StockhamFft(std::span<const Index> radices) {
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

}  // namespace freqkv::detail::inline FREQKV_ISA
