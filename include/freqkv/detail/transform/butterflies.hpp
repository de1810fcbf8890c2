// SPDX-License-Identifier: MIT
#pragma once

#include <numbers>
#include <type_traits>
#include <utility>

#include "freqkv/config.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"

// Discrete Fourier transforms of a few points that stay in registers, X[k] = sum_i x[i] exp(-2 pi i k / R).
// V is what one operation works on: a vector register with a column in each lane, or a plain float or
// double. Constants are computed by the compiler and loops unrolled by templates, without which compilers
// keep arrays of registers in memory.
namespace freqkv::detail {

template <class V>
struct ElementOf {
    using type = std::remove_cvref_t<decltype(std::declval<V&>()[0])>;
};
template <class V>
    requires std::is_floating_point_v<V>
struct ElementOf<V> {
    using type = V;
};

/// One complex point of each lane.
template <class V>
struct Complex {
    V re, im;

    using T = typename ElementOf<V>::type;

    FREQKV_INLINE friend Complex operator+(const Complex& a, const Complex& b) { return {a.re + b.re, a.im + b.im}; }
    FREQKV_INLINE friend Complex operator-(const Complex& a, const Complex& b) { return {a.re - b.re, a.im - b.im}; }
    FREQKV_INLINE friend Complex operator*(T a, const Complex& b) { return {a * b.re, a * b.im}; }

    /// This + c x, in one expression, so that compilers may fuse it.
    FREQKV_INLINE Complex plus(T c, const Complex& x) const { return {re + c * x.re, im + c * x.im}; }

    /// Times (c + i s).
    FREQKV_INLINE Complex turned(T c, T s) const { return {re * c - im * s, re * s + im * c}; }
};

/// a - i b and a + i b.
template <class V>
FREQKV_INLINE Complex<V> minus_i(const Complex<V>& a, const Complex<V>& b) {
    return {a.re + b.im, a.im - b.re};
}
template <class V>
FREQKV_INLINE Complex<V> plus_i(const Complex<V>& a, const Complex<V>& b) {
    return {a.re - b.im, a.im + b.re};
}

/// sin(2 pi k / n), by its series.
constexpr double sine_of_turn(Index k, Index n) {
    k = (k % n + n) % n;
    if (2 * k > n) return -sine_of_turn(n - k, n);
    if (4 * k > n) return sine_of_turn(n - 2 * k, 2 * n);
    const long double x = 2 * std::numbers::pi_v<long double> * k / n;
    long double term = x;
    long double sum = 0;
    for (int i = 1; i < 30; i += 2) {
        sum += term;
        term *= -x * x / ((i + 1) * (i + 2));
    }
    return static_cast<double>(sum);
}

/// The k-th of n equal parts of a turn.
template <class T, Index k, Index n>
struct Turn {
    static constexpr T cosine = static_cast<T>(sine_of_turn(4 * k + n, 4 * n));
    static constexpr T sine = static_cast<T>(sine_of_turn(k, n));
};

/// The transform of an odd prime length by its definition, with x[j] and x[R - j] taken together.
template <Index R>
struct Butterfly {
    static_assert(R % 2 == 1);

    template <class V>
    FREQKV_INLINE static void run(Complex<V>* x) {
        run(x, std::make_integer_sequence<Index, R / 2>{});
    }

private:
    // J + 1 is 1 ... R / 2.
    template <class V, Index... J>
    FREQKV_INLINE static void run(Complex<V>* x, std::integer_sequence<Index, J...> others) {
        const Complex<V> sums[] = {x[J + 1] + x[R - 1 - J]...};
        const Complex<V> differences[] = {x[J + 1] - x[R - 1 - J]...};
        const Complex<V> first = x[0];
        ((x[0] = x[0] + sums[J]), ...);
        (run_frequency<J + 1>(x, first, sums, differences, others), ...);
    }

    // Frequencies k and R - k.
    template <Index k, class V, Index... J>
    FREQKV_INLINE static void run_frequency(Complex<V>* x, const Complex<V>& first, const Complex<V>* sums,
                                            const Complex<V>* differences, std::integer_sequence<Index, J...>) {
        using T = typename Complex<V>::T;
        Complex<V> even = first;
        Complex<V> odd{};
        ((even = even.plus(Turn<T, k*(J + 1), R>::cosine, sums[J])), ...);
        ((odd = J == 0 ? Turn<T, k, R>::sine * differences[0] : odd.plus(Turn<T, k*(J + 1), R>::sine, differences[J])),
         ...);
        x[k] = minus_i(even, odd);
        x[R - k] = plus_i(even, odd);
    }
};

template <>
struct Butterfly<1> {
    template <class V>
    FREQKV_INLINE static void run(Complex<V>* /*x*/) {}
};

template <>
struct Butterfly<2> {
    template <class V>
    FREQKV_INLINE static void run(Complex<V>* x) {
        const Complex<V> difference = x[0] - x[1];
        x[0] = x[0] + x[1];
        x[1] = difference;
    }
};

template <>
struct Butterfly<4> {
    template <class V>
    FREQKV_INLINE static void run(Complex<V>* x) {
        const Complex<V> a = x[0] + x[2];
        const Complex<V> b = x[0] - x[2];
        const Complex<V> c = x[1] + x[3];
        const Complex<V> d = x[1] - x[3];
        x[0] = a + c;
        x[1] = minus_i(b, d);
        x[2] = a - c;
        x[3] = plus_i(b, d);
    }
};

template <>
struct Butterfly<8> {
    template <class V>
    FREQKV_INLINE static void run(Complex<V>* x) {
        using T = typename Complex<V>::T;
        constexpr T h = std::numbers::sqrt2_v<T> / 2;
        Complex<V> even[4] = {x[0], x[2], x[4], x[6]};
        Complex<V> odd[4] = {x[1], x[3], x[5], x[7]};
        Butterfly<4>::run(even);
        Butterfly<4>::run(odd);
        const Complex<V> first = minus_i(odd[1], odd[1]);  // h first = exp(-pi i / 4) odd[1]
        const Complex<V> third = plus_i(odd[3], odd[3]);   // -h third = exp(-3 pi i / 4) odd[3]
        x[0] = even[0] + odd[0];
        x[1] = even[1].plus(h, first);
        x[2] = minus_i(even[2], odd[2]);
        x[3] = even[3].plus(-h, third);
        x[4] = even[0] - odd[0];
        x[5] = even[1].plus(-h, first);
        x[6] = plus_i(even[2], odd[2]);
        x[7] = even[3].plus(h, third);
    }
};

/// A B points for coprime A and B, without multiplications between the two (Good, Thomas).
template <Index A, Index B>
struct CoprimeButterfly {
    template <class V>
    FREQKV_INLINE static void run(Complex<V>* x) {
        run(x, std::make_integer_sequence<Index, A>{}, std::make_integer_sequence<Index, B>{});
    }

private:
    // value i = 1 modulo `modulus`.
    static constexpr Index inverse(Index value, Index modulus) {
        Index i = 1;
        while (value * i % modulus != 1) ++i;
        return i;
    }
    // Input A j + B i and output A a k + B b l, modulo A B, with a A = 1 modulo B and b B = 1 modulo A.
    static constexpr Index from_a = A * inverse(A, B);
    static constexpr Index from_b = B * inverse(B, A);

    template <class V, Index... I, Index... J>
    FREQKV_INLINE static void run(Complex<V>* x, std::integer_sequence<Index, I...> all_a,
                                  std::integer_sequence<Index, J...> all_b) {
        Complex<V> rows[A * B];
        (run_column<J>(x, rows, all_a), ...);
        (run_row<I>(rows + I * B, x, all_b), ...);
    }

    template <Index j, class V, Index... I>
    FREQKV_INLINE static void run_column(const Complex<V>* x, Complex<V>* rows, std::integer_sequence<Index, I...>) {
        Complex<V> column[] = {x[(A * j + B * I) % (A * B)]...};
        Butterfly<A>::run(column);
        ((rows[I * B + j] = column[I]), ...);
    }

    template <Index l, class V, Index... K>
    FREQKV_INLINE static void run_row(Complex<V>* row, Complex<V>* x, std::integer_sequence<Index, K...>) {
        Butterfly<B>::run(row);
        ((x[(from_a * K + from_b * l) % (A * B)] = row[K]), ...);
    }
};

/// A B points for any A and B (Cooley, Tukey).
template <Index A, Index B>
struct TurnedButterfly {
    template <class V>
    FREQKV_INLINE static void run(Complex<V>* x) {
        run(x, std::make_integer_sequence<Index, A>{}, std::make_integer_sequence<Index, B>{});
    }

private:
    template <class V, Index... K, Index... I>
    FREQKV_INLINE static void run(Complex<V>* x, std::integer_sequence<Index, K...> all_a,
                                  std::integer_sequence<Index, I...> all_b) {
        Complex<V> rows[A * B];
        (run_column<I>(x, rows, all_a), ...);
        (run_row<K>(rows + K * B, x, all_b), ...);
    }

    template <Index i, class V, Index... K>
    FREQKV_INLINE static void run_column(const Complex<V>* x, Complex<V>* rows, std::integer_sequence<Index, K...>) {
        Complex<V> column[] = {x[B * K + i]...};
        Butterfly<A>::run(column);
        ((rows[K * B + i] = turned<i * K>(column[K])), ...);
    }

    template <Index k, class V, Index... L>
    FREQKV_INLINE static void run_row(Complex<V>* row, Complex<V>* x, std::integer_sequence<Index, L...>) {
        Butterfly<B>::run(row);
        ((x[k + A * L] = row[L]), ...);
    }

    // x exp(-2 pi i turn / A B)
    template <Index turn, class V>
    FREQKV_INLINE static Complex<V> turned(const Complex<V>& x) {
        using T = typename Complex<V>::T;
        if constexpr (turn == 0) return x;
        if constexpr (4 * turn == A * B) return {x.im, -x.re};
        return x.turned(Turn<T, turn, A * B>::cosine, -Turn<T, turn, A * B>::sine);
    }
};

template <>
struct Butterfly<6> : CoprimeButterfly<2, 3> {};
template <>
struct Butterfly<9> : TurnedButterfly<3, 3> {};
template <>
struct Butterfly<10> : CoprimeButterfly<2, 5> {};
template <>
struct Butterfly<12> : CoprimeButterfly<4, 3> {};
template <>
struct Butterfly<16> : TurnedButterfly<4, 4> {};

}  // namespace freqkv::detail
